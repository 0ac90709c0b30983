"""What a screen reader, a keyboard and tired eyes need of a page, checked in the browser."""

CHECK = r"""
const wrong = [];
const say = (what, node) =>
  wrong.push(`${what}: ${node?.outerHTML?.slice(0, 120).replace(/\s+/g, " ") ?? ""}`);
const seen = (node) => node.getClientRects().length > 0 && !node.closest(".unseen, .skip");
const all = (selector) => [...document.querySelectorAll(selector)];

if (!document.documentElement.lang) say("no language");
if (!document.title.trim()) say("no title");
for (const [name, count] of [["main", 1], ["body > header", 1], ["h1", 1], ["body > footer", 1]])
  if (all(name).length !== count) say(`${all(name).length} of ${name}`);
for (const nav of all("nav")) if (!nav.getAttribute("aria-label")) say("nav without name", nav);

let level = 0;
for (const heading of all("h1, h2, h3, h4, h5, h6").filter(seen)) {
  const next = Number(heading.tagName[1]);
  if (level && next > level + 1) say(`heading ${next} after ${level}`, heading);
  level = next;
}

const ids = all("[id]").map((node) => node.id);
for (const id of ids) if (ids.filter((each) => each === id).length > 1) say(`id ${id} twice`);
for (const name of ["aria-labelledby", "aria-describedby", "for"])
  for (const node of all(`[${name}]`))
    for (const id of node.getAttribute(name).split(" "))
      if (!document.getElementById(id)) say(`${name} of nothing`, node);

for (const field of all("input:not([type=hidden]), select, textarea"))
  if (!field.labels.length && !field.getAttribute("aria-label")) say("field without label", field);
for (const node of all("button, a[href], summary"))
  if (!(node.getAttribute("aria-label") ?? node.textContent).trim()) say("no name", node);
for (const form of all("form"))
  if (!form.getAttribute("aria-label")) say("form without name", form);
for (const svg of all("svg"))
  if (svg.getAttribute("role") !== "img" || !svg.querySelector("title, desc")) say("svg", svg);
for (const table of all("table"))
  if (!table.caption || !table.querySelector("th[scope]")) say("table without names", table);
for (const node of all("[tabindex]")) if (node.tabIndex > 0) say("tab order", node);
for (const box of all("pre, .scroll"))
  if (seen(box) && box.scrollWidth > box.clientWidth && box.tabIndex !== 0) say("no keyboard", box);
for (const node of all("*"))
  for (const { name } of node.attributes)
    if (name === "style" || name.startsWith("on")) say(`inline ${name}`, node);

const rgba = (text) => (text.match(/[\d.]+/g) ?? [0, 0, 0, 0]).map(Number);
const channel = (c) => (c / 255 <= 0.04045 ? c / 255 / 12.92 : ((c / 255 + 0.055) / 1.055) ** 2.4);
const light = ([r, g, b]) => 0.2126 * channel(r) + 0.7152 * channel(g) + 0.0722 * channel(b);
const ground = (node) => {
  for (let at = node; at; at = at.parentElement) {
    const [r, g, b, a = 1] = rgba(getComputedStyle(at).backgroundColor);
    if (a === 1) return [r, g, b];
  }
  return [255, 255, 255];
};
const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
while (walker.nextNode()) {
  const node = walker.currentNode.parentElement;
  if (!walker.currentNode.data.trim() || !seen(node)) continue;
  if (node.closest("noscript, option, title, desc")) continue;
  const style = getComputedStyle(node);
  const ink = rgba(node.closest("svg") ? style.fill : style.color);
  const [one, two] = [light(ink), light(ground(node))];
  const ratio = (Math.max(one, two) + 0.05) / (Math.min(one, two) + 0.05);
  const size = parseFloat(style.fontSize);
  const large = size >= 24 || (size >= 18.66 && Number(style.fontWeight) >= 700);
  if (ratio < (large ? 3 : 4.5)) say(`contrast ${ratio.toFixed(2)}`, node);
}

const root = document.documentElement;
if (root.scrollWidth > root.clientWidth) say(`${root.scrollWidth} wide in ${root.clientWidth}`);
for (const node of all("button, .button, input:not([type=hidden]), select"))
  if (seen(node) && node.getBoundingClientRect().height < 24) say("hard to hit", node);
for (const entry of performance.getEntriesByType("resource"))
  if (new URL(entry.name).origin !== location.origin) say(`from elsewhere ${entry.name}`);
return wrong;
"""
"""Returns what is wrong, a line for each: names, order, contrast (WCAG 2.2 AA), width, origin."""
