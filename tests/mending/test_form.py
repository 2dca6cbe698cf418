import pytest
import torch
from torch import nn

from plumbob.errors import InputError
from plumbob.mending.form import Form, Kind, Slot, bring, form_of, unloadable

BIAS = Slot(shape=(4,), dtype="float32")


def net():
    return nn.Sequential(
        nn.Linear(3, 4), nn.LayerNorm(4), nn.ReLU(), nn.Linear(4, 2, bias=False)
    )


def mended():
    model = net()
    model[0] = nn.Linear(3, 4, bias=False)
    model[1] = nn.RMSNorm(4, eps=1e-5)
    model[3].register_parameter("bias", nn.Parameter(torch.zeros(2)))
    return model


def test_a_form_is_what_makes_one_model_like_another():
    form = form_of(net(), mended())
    assert form == Form(
        removed={"0.bias": BIAS, "1.bias": BIAS},
        added={"3.bias": Slot(shape=(2,), dtype="float32")},
        exchanged={
            "1": Kind(
                name="RMSNorm",
                arguments={
                    "normalized_shape": (4,),
                    "eps": 1e-5,
                    "elementwise_affine": True,
                },
                was="LayerNorm",
            )
        },
    )
    assert not unloadable(form, net(), mended())
    model = net().eval()
    bring(model, form)
    assert model[0].bias is None
    assert not model[1].training
    assert {n for n, p in model.named_parameters() if p.is_meta} == {
        "1.weight",
        "3.bias",
    }


def test_units_that_went_make_smaller_layers():
    after = net()
    after[0] = nn.Linear(3, 1)
    after[3] = nn.Linear(1, 2, bias=False)
    after[1] = nn.Identity()
    form = form_of(net(), after)
    assert form.resized["0.weight"] == Slot(shape=(1, 3), dtype="float32")
    assert form.sizes == {"0": {"out_features": 1}, "3": {"in_features": 1}}
    assert not unloadable(form, net(), after)


def test_a_module_that_came_between_others_keeps_its_place():
    after = nn.Sequential()
    for name, part in net().named_children():
        after.add_module(name, part)
        if name == "0":
            after.add_module("0_tanh", nn.Tanh())
    form = form_of(net(), after)
    assert form.exchanged == {"0_tanh": Kind(name="Tanh", arguments={}, behind="0")}
    assert not unloadable(form, net(), after)
    model = net()
    bring(model, form)
    assert [name for name, _ in model.named_children()] == ["0", "0_tanh", *"123"]


def test_what_a_form_does_not_tell_is_named():
    class Own(nn.Module):
        def forward(self, x):
            return x

    own, gone, hooked = net(), net(), net()
    own[2] = Own()
    del gone[2]
    hooked[0].register_forward_pre_hook(lambda module, args: None)
    for after, told in ((own, "'Own'"), (gone, "Sequential"), (hooked, "0 is")):
        assert told in unloadable(form_of(net(), after), net(), after)


def exchanged(kind, at="2", was="ReLU", behind="", **arguments):
    return Form(
        exchanged={at: Kind(name=kind, arguments=arguments, was=was, behind=behind)}
    )


@pytest.mark.parametrize(
    ("form", "told"),
    [
        (Form(removed={"0.bais": BIAS}), r"Did you mean '0\.bias'\?"),
        (Form(removed={"0.forward": BIAS}), r"'0\.forward'"),
        (Form(removed={"9.bias": BIAS}), r"'9\.bias'"),
        (Form(removed={"0.bias": Slot(shape=(5,), dtype="float32")}), r"\[5\], got"),
        (Form(added={"0.bias": BIAS}), r"built without '0\.bias'"),
        (Form(added={"0.forward": BIAS}), r"'0\.forward'"),
        (Form(added={"__class__.bias": BIAS}), "'__class__'"),
        (Form(resized={"3.bias": BIAS}), r"built with '3\.bias'"),
        (Form(sizes={"0": {"forward": 1}}), "with forward at '0'"),
        (Form(sizes={"0": {"out_features": "4"}}), "out_features"),
        (Form(frozen=("0.bais",)), r"Did you mean '0\.bias'\?"),
        (exchanged("Transformer"), "not made from a file"),
        (exchanged("Tanh", was="GELU"), "a GELU at '2'"),
        (exchanged("Tanh", at="x", was="", behind="y"), "got none"),
        (exchanged("Linear", n=1), "unexpected keyword"),
        (exchanged("Linear", in_features=1 << 62, out_features=8), "arguments of"),
    ],
)
def test_a_form_of_another_model_is_refused(form, told):
    with pytest.raises(InputError, match=told):
        bring(net(), form)


def test_what_is_new_takes_no_memory_before_there_are_values():
    model = net()
    bring(model, exchanged("Linear", in_features=1 << 30, out_features=1 << 30))
    assert model[2].weight.is_meta
