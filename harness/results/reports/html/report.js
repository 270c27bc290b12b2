"use strict";
// Without this script everything can be read; with it the table of jobs can be filtered and sorted.
(() => {
  const table = document.getElementById("jobs");
  const form = document.getElementById("filter");
  const body = table.tBodies[0];
  const rows = [...body.rows];
  const details = new Map([...document.querySelectorAll(".job")].map((job) => [job.id, job]));

  function filter() {
    const text = form.text.value.trim().toLowerCase();
    const status = form.status.value;
    let shown = 0;
    for (const row of rows) {
      const fits = row.textContent.toLowerCase().includes(text) && (!status || row.dataset.status === status);
      row.hidden = !fits;
      details.get(row.querySelector("a").hash.slice(1)).hidden = !fits;
      shown += fits;
    }
    form.querySelector("output").textContent = `${shown} of ${rows.length} jobs`;
  }

  function sort(header, index) {
    const up = header.getAttribute("aria-sort") !== "ascending";
    for (const other of header.parentNode.cells) other.removeAttribute("aria-sort");
    header.setAttribute("aria-sort", up ? "ascending" : "descending");
    const order = new Intl.Collator("en", { numeric: true });
    const key = (row) => row.cells[index].textContent;
    rows.sort((a, b) => (up ? 1 : -1) * order.compare(key(a), key(b)));
    body.append(...rows);
  }

  [...table.tHead.rows[0].cells].forEach((header, index) => {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = header.textContent;
    button.addEventListener("click", () => sort(header, index));
    header.replaceChildren(button);
  });
  form.addEventListener("input", filter);
  form.addEventListener("submit", (event) => event.preventDefault());
  form.hidden = false;
  filter();

  function open() {
    const job = details.get(location.hash.slice(1));
    if (job) {
      job.hidden = false;
      job.open = true;
      job.scrollIntoView();
    }
  }
  addEventListener("hashchange", open);
  open();
})();
