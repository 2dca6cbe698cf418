// Everything can be read without this: it only filters and sorts.
for (const box of document.querySelectorAll("[data-filters]")) {
  box.closest("p").hidden = false;
  const rows = [...document.querySelectorAll(box.dataset.filters)];
  const said = box.closest("p").querySelector("output");
  box.addEventListener("input", () => {
    const wanted = box.value.toLowerCase();
    let shown = 0;
    for (const row of rows) {
      row.hidden = !row.querySelector("code").textContent.toLowerCase().includes(wanted);
      shown += !row.hidden;
    }
    said.textContent = shown + " of " + rows.length;
  });
}
for (const head of document.querySelectorAll("th[data-sorts]")) {
  const button = document.createElement("button");
  button.className = "sort";
  button.type = "button";
  button.textContent = head.textContent;
  head.replaceChildren(button);
  button.addEventListener("click", () => {
    const up = head.getAttribute("aria-sort") !== "ascending";
    for (const other of head.parentNode.children) other.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", up ? "ascending" : "descending");
    const body = head.closest("table").tBodies[0];
    const value = (row) => row.cells[head.cellIndex].dataset.value ?? row.cells[head.cellIndex].textContent.trim();
    const order = (a, b) => value(a).localeCompare(value(b), undefined, { numeric: true });
    body.append(...[...body.rows].sort((a, b) => (up ? order(a, b) : order(b, a))));
  });
}
// A link from a picture opens what it leads to.
const open = () => {
  const there = document.getElementById(decodeURIComponent(location.hash.slice(1)));
  const inside = there && (there.matches("details") ? there : there.querySelector("details"));
  if (inside) inside.open = true;
};
addEventListener("hashchange", open);
open();
