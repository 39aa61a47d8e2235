/* What scrolls, but for tables and figures (tables.js), can be reached and scrolled with the keyboard, and is skipped where it fits. */
"use strict";
addEventListener("DOMContentLoaded", () => {
  const scrolls = (box) =>
    (box.scrollWidth > box.clientWidth + 1 || box.scrollHeight > box.clientHeight + 1) &&
    /auto|scroll/.test(getComputedStyle(box).overflowX + getComputedStyle(box).overflowY);
  const boxes = document.querySelectorAll("article :is(pre, div.output, div[class*=scroll])");
  const watcher = new ResizeObserver((changes) => {
    for (const { target } of changes) {
      if (scrolls(target)) target.tabIndex = 0;
      else target.removeAttribute("tabindex");
    }
  });
  boxes.forEach((box) => watcher.observe(box));
});
