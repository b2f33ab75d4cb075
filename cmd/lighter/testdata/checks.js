// What is wrong with the page for somebody who cannot see it, not see it well, has
// no mouse, or a phone: a list of lines. The numbers are those of WCAG 2.2, AA.
() => {
  const wrong = [];
  const name = e => `<${e.localName}${e.id ? "#" + e.id : ""}${e.classList.length ? "." + [...e.classList].join(".") : ""}> ${(e.textContent || e.value || "").trim().slice(0, 40)}`;
  const say = (e, what) => wrong.push(`${name(e)}: ${what}`);
  const all = (selector, root = document) => [...root.querySelectorAll(selector)];
  const seen = e => e.checkVisibility({ visibilityProperty: true, opacityProperty: true }) && e.getClientRects().length > 0;
  const hidden = e => e.closest("[aria-hidden=true]");

  // The document.
  if (!document.documentElement.lang) wrong.push("no lang");
  if (!document.title.trim()) wrong.push("no title");
  for (const [selector, what] of [["main", "main"], ["body > header", "header"], ["h1", "h1"]]) {
    const n = all(selector).filter(seen).length;
    if (n !== 1) wrong.push(`${n} of ${what}`);
  }
  let level = 0;
  for (const h of all("h1,h2,h3,h4,h5,h6").filter(seen)) {
    const n = Number(h.localName[1]);
    if (n > level + 1) say(h, `a level ${n} after a level ${level}`);
    level = n;
  }
  const ids = new Map();
  for (const e of all("[id]")) {
    if (ids.has(e.id)) say(e, "its id is there twice");
    ids.set(e.id, e);
  }
  if (document.documentElement.scrollWidth > innerWidth) wrong.push(`it is ${document.documentElement.scrollWidth} wide in a window of ${innerWidth}`);
  for (const e of all("body *")) {
    if (seen(e) && e.getBoundingClientRect().right > innerWidth + 1 && !e.closest(".scroll,.lines,svg,.skip,pre")) say(e, "it goes beyond the window");
  }

  // Names and roles.
  const roles = ["alert", "group", "img", "region", "search", "status", "list", "link"];
  for (const e of all("[role]")) if (!roles.includes(e.getAttribute("role"))) say(e, `role ${e.getAttribute("role")}`);
  for (const attribute of ["aria-labelledby", "aria-describedby"]) {
    for (const e of all(`[${attribute}]`)) {
      for (const id of e.getAttribute(attribute).split(/\s+/)) if (!ids.has(id)) say(e, `${attribute} names ${id}, which is not there`);
    }
  }
  const words = e => {
    const copy = e.cloneNode(true);
    for (const h of copy.querySelectorAll?.("[aria-hidden=true]") ?? []) h.remove();
    return copy.textContent.trim();
  };
  const named = e => e.getAttribute("aria-label")?.trim() ||
    (e.getAttribute("aria-labelledby") ?? "").split(/\s+/).map(id => ids.get(id)?.textContent ?? "").join("").trim() ||
    [...(e.labels ?? [])].map(words).join("") || (/^(input|select|textarea)$/.test(e.localName) ? "" : words(e)) || e.title;
  const controls = all("a[href],button,input:not([type=hidden]),select,textarea,summary").filter(seen);
  for (const e of controls) {
    if (!named(e)) say(e, "it has no name");
    if (hidden(e)) say(e, "it can be reached, and is hidden from readers");
  }
  for (const e of all("section,[role=region],nav,svg[role],ol[tabindex]").filter(seen)) if (!named(e)) say(e, "it has no name");
  for (const e of all("fieldset").filter(seen)) if (!e.querySelector(":scope > legend")) say(e, "it has no legend");
  for (const e of all("th")) if (!e.hasAttribute("scope")) say(e, "a heading of what?");
  for (const e of all("[tabindex]")) if (e.tabIndex > 0) say(e, "it comes before its turn");
  for (const e of all("body *").filter(seen)) {
    const s = getComputedStyle(e);
    if (/auto|scroll/.test(s.overflowX + s.overflowY) && (e.scrollWidth > e.clientWidth + 1 || e.scrollHeight > e.clientHeight + 1) && e.tabIndex < 0) say(e, "it scrolls for a mouse only");
  }
  for (const e of all(".state").filter(seen)) if (!/[a-z]/.test(words(e)) || !hidden(e.firstElementChild)) say(e, "a state is a glyph and a word");

  // Forms.
  const pen = new OffscreenCanvas(1, 1).getContext("2d");
  for (const e of all("input[placeholder]").filter(seen)) {
    const s = getComputedStyle(e), cross = e.type === "search" ? 16 : 0; // what empties it
    pen.font = `${s.fontWeight} ${s.fontSize} ${s.fontFamily}`;
    if (pen.measureText(e.placeholder).width > e.clientWidth - parseFloat(s.paddingLeft) - parseFloat(s.paddingRight) - cross) say(e, "its placeholder is cut");
  }
  for (const e of all("main form").filter(seen)) {
    const next = e.nextElementSibling?.getBoundingClientRect(), end = e.getBoundingClientRect().bottom;
    if (next?.height && next.top >= end - 8 && next.top < end + 8) say(e, "it touches what is below");
  }

  // Contrast.
  const canvas = new OffscreenCanvas(1, 1).getContext("2d", { willReadFrequently: true });
  const rgba = colour => {
    canvas.clearRect(0, 0, 1, 1);
    canvas.fillStyle = colour;
    canvas.fillRect(0, 0, 1, 1);
    return [...canvas.getImageData(0, 0, 1, 1).data];
  };
  const light = ([r, g, b]) => [r, g, b].map(v => (v /= 255) <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const ratio = (a, b) => {
    const [x, y] = [light(a), light(b)].sort((x, y) => y - x);
    return (x + 0.05) / (y + 0.05);
  };
  const paper = e => {
    for (; e; e = e.parentElement) {
      const c = rgba(getComputedStyle(e).backgroundColor);
      if (c[3] === 255) return c;
    }
    return [255, 255, 255, 255];
  };
  const under = text => { // what a text of a picture stands on; it may be cut off further right
    const box = text.getBoundingClientRect();
    for (const e of document.elementsFromPoint(box.x + 3, box.y + box.height / 2)) {
      if (e.localName === "rect") {
        const fill = getComputedStyle(e).fill;
        return fill.startsWith("url") ? null : rgba(fill);
      }
    }
    return paper(text.closest("svg").parentElement);
  };
  const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  const done = new Set();
  while (texts.nextNode()) {
    const e = texts.currentNode.parentElement;
    if (done.has(e) || !texts.currentNode.data.trim() || !seen(e) || /^(title|desc|style|script|option)$/.test(e.localName)) continue;
    done.add(e);
    const s = getComputedStyle(e), picture = e.closest("svg text");
    const on = picture ? under(picture) : paper(e);
    if (!on) continue;
    const have = ratio(rgba(picture ? s.fill : s.color), on);
    const size = parseFloat(s.fontSize), large = size >= 24 || size >= 18.66 && s.fontWeight >= 700;
    if (have < (large ? 3 : 4.5)) say(e, `contrast ${have.toFixed(2)}`);
  }
  for (const e of all("input:not([type=checkbox],[type=radio],[type=hidden]),select,button").filter(seen)) {
    const have = Math.max(ratio(rgba(getComputedStyle(e).borderTopColor), paper(e.parentElement)), ratio(rgba(getComputedStyle(e).backgroundColor), paper(e.parentElement)));
    if (have < 3) say(e, `its edge has contrast ${have.toFixed(2)}`);
  }

  // Room for a finger: 24 pixels each way, or as much to the next one.
  const boxes = controls.filter(e => !e.closest("svg")).map(e => {
    let b = e.getBoundingClientRect();
    for (const l of e.labels ?? []) { const c = l.getBoundingClientRect(); if (l.contains(e)) b = c; }
    return { e, b, x: b.x + b.width / 2, y: b.y + b.height / 2 };
  });
  for (const t of boxes) {
    if (t.b.width >= 23.5 && t.b.height >= 23.5 || t.e.closest("p,li:not(.step)") || t.e.matches(".skip")) continue;
    for (const o of boxes) {
      if (o === t || o.e.contains(t.e) || t.e.contains(o.e)) continue;
      const dx = Math.max(o.b.left - t.x, 0, t.x - o.b.right), dy = Math.max(o.b.top - t.y, 0, t.y - o.b.bottom);
      if (Math.hypot(dx, dy) < 12) say(t.e, `${t.b.width.toFixed()}×${t.b.height.toFixed()}, and next to ${name(o.e)}`);
    }
  }
  // Things that move.
  if (matchMedia("(prefers-reduced-motion: reduce)").matches) {
    for (const e of all("*")) {
      const s = getComputedStyle(e);
      if (s.animationName !== "none" || parseFloat(s.transitionDuration) > 0 || s.scrollBehavior === "smooth") say(e, "it moves");
    }
  }
  return wrong;
}
