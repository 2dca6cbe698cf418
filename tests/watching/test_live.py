import io

from rich.console import Console

from plumbob.types import Finding, Log, Remedy, Severity
from plumbob.watching.live import Live


def finding(code, site, severity):
    remedy = Remedy(advice="Do.")
    return Finding(
        message="it leans",
        cause="",
        evidence={},
        remedy=remedy,
        site=site,
        severity=severity,
        code=code,
        name="",
    )


def test_one_line_that_fits_and_is_drawn_over():
    out = io.StringIO()
    live = Live(Console(file=out, width=60, force_terminal=True, color_system=None))
    live.write(Log(step=1200, losses={"loss": ((1199, 2.0), (1200, 0.5))}))
    live.tell(
        1200,
        [
            finding("PB1", "a", Severity.INFO),
            finding("PB2", "b", Severity.ERROR),
        ],
    )
    before, *lines = out.getvalue().split("\r")
    assert not before
    assert lines[0].rstrip() == "step 1,200  loss 0.5"
    assert lines[1].rstrip() == "step 1,200  loss 0.5  2 leaning  PB2 b: it leans"
    # the cursor is left behind the last column: what comes next begins a line
    assert all(len(line) == 60 for line in lines)
    live.tell(1300, [finding("PB2", "b", Severity.ERROR)])
    assert len(out.getvalue().split("\r")) == 3  # nothing new
    live.close()
    assert out.getvalue().endswith("it leans" + 12 * " " + "\n")


def test_what_is_no_terminal_gets_plain_lines():
    out = io.StringIO()
    live = Live(Console(file=out, width=60))
    live.write(Log(step=3, losses={"loss": ((3, 2.0),)}))
    live.tell(3, [finding("PB2", None, Severity.ERROR)])
    live.close()
    lines = ["step 3  loss 2", "step 3  loss 2  PB2 the model: it leans"]
    assert out.getvalue().splitlines() == lines


def test_lines_are_rare():
    out = io.StringIO()
    live = Live(Console(file=out, width=60))
    for step in range(100):
        live.write(Log(step=step))
    assert out.getvalue().count("step") == 1
