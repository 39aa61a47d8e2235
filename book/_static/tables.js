/* Tables that sort, and whatever is wider than the page told so. Without a script all of it can be
   read as it stands. A table with data-plain is left alone. */
(() => {
  "use strict";
  const NUMBER = /^[+\-−]?\d[\d,]*(\.\d+)?(e[+-]?\d+)?(?= ?%| ?×| \(| to | x |$)/i;
  const FEW = 4; // rows that nobody needs to sort

  const read = (cell) => {
    const text = cell.textContent.trim();
    const found = text.match(NUMBER);
    return { text, number: found ? Number(found[0].replace(/,/g, "").replace("−", "-")) : NaN };
  };
  // What is missing has words for it, and comes last whichever way a column is sorted.
  const missing = (value) => /^(|not \w+|none|no block|the map)$/.test(value.text);

  function isNumeric(values) {
    const known = values.filter((value) => !missing(value));
    return known.length > 0 && known.every((value) => !Number.isNaN(value.number));
  }

  function sortRows(body, original, column, numeric, direction) {
    const sign = direction === "descending" ? -1 : 1;
    const compare = (a, b) => {
      if (missing(a) || missing(b)) return missing(a) - missing(b);
      const order = numeric ? a.number - b.number : a.text.localeCompare(b.text, "en", { numeric: true });
      return sign * order;
    };
    const rows = original.map((row) => ({ row, value: read(row.cells[column]) }));
    if (direction !== "none") rows.sort((a, b) => compare(a.value, b.value));
    body.append(...rows.map(({ row }) => row));
  }

  // The long names of features may break where they have a stroke.
  function letBreak(header) {
    header.childNodes.forEach((node) => {
      if (node.nodeType !== Node.TEXT_NODE || !node.data.includes("_")) return;
      const parts = node.data.split(/(?<=_)/).flatMap((part) => [document.createElement("wbr"), part]);
      node.replaceWith(...parts.slice(1));
    });
  }

  function makeSortable(table, headers, original) {
    const body = table.tBodies[0];
    headers.forEach((header, column) => {
      const numeric = isNumeric(original.map((row) => read(row.cells[column])));
      const cells = original.map((row) => row.cells[column]);
      const narrow = cells.every((cell) => cell.textContent.trim().length < 28);
      if (numeric && narrow) [header, ...cells].forEach((cell) => cell.classList.add("number"));
      cells.forEach((cell) => cell.classList.toggle("short", numeric && cell.textContent.length < 14));
      letBreak(header);
      if (original.length < FEW || !header.textContent.trim()) return;
      const button = document.createElement("button");
      button.type = "button";
      button.className = "sort";
      button.append(...header.childNodes);
      header.append(button);
      button.addEventListener("click", () => {
        const next = { ascending: "descending", descending: "none" };
        const direction = next[header.getAttribute("aria-sort")] || "ascending";
        headers.forEach((other) => other.removeAttribute("aria-sort"));
        if (direction !== "none") header.setAttribute("aria-sort", direction);
        sortRows(body, original, column, numeric, direction);
      });
    });
  }

  function watchWidth(box, what) {
    const hint = document.createElement("p");
    hint.className = "scroll-hint";
    hint.setAttribute("aria-hidden", "true");
    hint.textContent = `${what} scrolls sideways →`;
    const look = () => {
      const wide = box.scrollWidth > box.clientWidth + 1;
      if (wide === box.classList.contains("scrolls")) return;
      box.classList.toggle("scrolls", wide);
      if (wide) {
        box.before(hint);
        box.tabIndex = 0;
        box.setAttribute("role", "group");
        box.setAttribute("aria-label", `${what}, scrolls sideways`);
      } else {
        hint.remove();
        ["tabindex", "role", "aria-label"].forEach((name) => box.removeAttribute(name));
      }
    };
    new ResizeObserver(look).observe(box);
    look();
  }

  function begin() {
    document.querySelectorAll(".bd-article table:not([data-plain])").forEach((table) => {
      const box = document.createElement("div");
      box.className = "table-box";
      table.replaceWith(box);
      box.append(table);
      const headers = table.tHead ? [...table.tHead.rows[0].cells] : [];
      const rows = table.tBodies.length ? [...table.tBodies[0].rows] : [];
      const regular = rows.length && rows.every((row) => row.cells.length === headers.length);
      if (headers.length && regular) makeSortable(table, headers, rows);
      watchWidth(box, "Table");
    });
    document.querySelectorAll(".bd-article .drawn").forEach((box) => watchWidth(box, "Figure"));
  }

  if (document.readyState === "loading") document.addEventListener("DOMContentLoaded", begin);
  else begin();
})();
