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
    const target = document.getElementById(location.hash.slice(1));
    if (target instanceof HTMLDetailsElement) {
      target.hidden = false;
      target.open = true;
      target.scrollIntoView();
    }
  }
  addEventListener("hashchange", open);
  open();

  // A button that copies each command.
  for (const code of document.querySelectorAll("pre code, dd code")) {
    const button = document.createElement("button");
    button.type = "button";
    button.className = "copy";
    button.textContent = "copy";
    button.addEventListener("click", async () => {
      await navigator.clipboard.writeText(code.textContent);
      button.textContent = "copied";
      setTimeout(() => { button.textContent = "copy"; }, 1500);
    });
    code.after(button);
  }

  // The value under the pointer. Rows of a heat map are counted from below.
  const seen = document.createElement("div");
  seen.id = "seen";
  seen.hidden = true;
  document.body.append(seen);
  for (const svg of document.querySelectorAll("svg[data-seen]")) {
    const map = JSON.parse(svg.dataset.seen);
    svg.addEventListener("pointermove", (event) => {
      const at = new DOMPoint(event.clientX, event.clientY).matrixTransform(svg.getScreenCTM().inverse());
      const column = Math.floor((at.x - map.x) / map.w);
      const below = Math.floor((at.y - map.y) / map.h);
      const row = map.down ? map.rows.length - 1 - below : below;
      const value = map.cells[row]?.[column];
      seen.hidden = !value;
      if (!value) return;
      const place = map.down ? `${map.rows[row]}, ${map.columns[column]}` : map.columns[column];
      seen.textContent = `${place}: ${value}`;
      seen.style.left = `${Math.min(event.clientX + 12, innerWidth - seen.offsetWidth - 4)}px`;
      seen.style.top = `${event.clientY + 16}px`;
    });
    svg.addEventListener("pointerleave", () => { seen.hidden = true; });
  }
})();
