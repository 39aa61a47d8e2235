/* Finds what the pages say, in the texts that the build left in search-data.js: a file opened from
   disk may fetch nothing. A number is found with or without its thousands separators. The build
   loads this on every page; it works on the one with a place for results. */
"use strict";
addEventListener("DOMContentLoaded", () => {
  const MOST = 40, AROUND = 110;
  const field = document.querySelector("article input[name=q]");
  const list = document.getElementById("search-results");
  if (!list) return;
  const summary = document.getElementById("search-summary");

  /* "7056" also means "7,056"; any white space is as good as another. */
  const pattern = (word) =>
    [...word]
      .map((c) => c.replace(/[.*+?^${}()|[\]\\]/, "\\$&"))
      .join("")
      .replace(/\d(?=\d)/g, "$&,?");

  const found = (words) => {
    const each = words.map((word) => new RegExp(pattern(word), "giu"));
    const whole = words.map((word) => new RegExp(`(?<![\\p{L}\\p{N}])${pattern(word)}(?![\\p{L}\\p{N}])`, "giu"));
    const hits = [];
    for (const section of window.bookSections) {
      const all = `${section.title} ${section.heading} ${section.text}`;
      if (!each.every((e) => all.search(e) >= 0)) continue;
      let score = 0;
      words.forEach((_, i) => {
        if (section.title.search(each[i]) >= 0) score += 20;
        if (section.heading.search(each[i]) >= 0) score += 20;
        score += 5 * Math.min(4, (all.match(whole[i]) || []).length);
        score += Math.min(4, (all.match(each[i]) || []).length);
      });
      hits.push({ section, score });
    }
    return hits.sort((a, b) => b.score - a.score);
  };

  /* What stands around the first word, all words of the query marked. */
  const excerpt = (text, any) => {
    const at = Math.max(0, text.search(any));
    const from = at <= AROUND ? 0 : text.indexOf(" ", at - AROUND) + 1;
    const cut = text.slice(from, at + 2 * AROUND);
    const line = document.createElement("p");
    line.append(from ? "… " : "");
    let last = 0;
    for (const match of cut.matchAll(any)) {
      const mark = document.createElement("mark");
      mark.textContent = match[0];
      line.append(cut.slice(last, match.index), mark);
      last = match.index + match[0].length;
    }
    line.append(cut.slice(last), from + cut.length < text.length ? " …" : "");
    return line;
  };

  const show = () => {
    const words = field.value.normalize("NFC").split(/\s+/u).filter(Boolean).map((w) => w.replace(/(\d),(?=\d)/g, "$1"));
    list.replaceChildren();
    if (!words.length) {
      summary.textContent = "";
      return;
    }
    const hits = found(words);
    const any = new RegExp(words.map(pattern).join("|"), "giu");
    const pages = new Set(hits.map((hit) => hit.section.page)).size;
    summary.textContent = hits.length
      ? `${hits.length} ${hits.length === 1 ? "section" : "sections"} on ${pages} ${pages === 1 ? "page" : "pages"}` +
        (hits.length > MOST ? `, the first ${MOST} are shown` : "")
      : "No section has all of these words.";
    for (const { section } of hits.slice(0, MOST)) {
      const item = document.createElement("li");
      const link = document.createElement("a");
      link.href = section.page + (section.id ? `#${section.id}` : "");
      link.textContent = section.heading === section.title ? section.title : `${section.title}: ${section.heading}`;
      item.append(link, excerpt(section.text, any));
      list.append(item);
    }
  };

  field.value = new URLSearchParams(location.search).get("q") || "";
  field.focus();
  field.addEventListener("input", show);
  show();
});
