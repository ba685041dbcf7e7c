"use strict";
// Adds to a page that can be read without it: sorting, filters, records in a dialog, the plot, and the image viewer.

const make = (tag, properties = {}, ...children) => {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
};
const option = ([value, text]) => make("option", { value, textContent: text });
const labelled = (text, control) => make("label", {}, text, control);

// --- tables: sorted by a column across all sections, filtered by text ---

function compareCells(a, b, sign) {
  const [x, y] = [a, b].map((cell) => ("sort" in cell.dataset ? Number(cell.dataset.sort.replace("inf", "Infinity")) : cell.textContent));
  if (typeof x === "number" && typeof y === "number") return sign * (x - y);
  if (typeof x === "number" || typeof y === "number") return typeof x === "number" ? -1 : 1; // without a value: last
  return sign * x.localeCompare(y, "en", { numeric: true });
}

function makeSortable(table) {
  const bodies = [...table.tBodies];
  const original = new Map(bodies.filter((body) => body.matches(".rows")).map((body) => [body, [...body.rows]]));
  const headings = bodies.filter((body) => body.matches(".heading"));
  const first = original.keys().next().value;
  const columns = [...table.tHead.rows[0].cells];
  const reset = () => {
    for (const [body, rows] of original) body.append(...rows);
    for (const heading of headings) heading.hidden = false;
    for (const each of columns) each.removeAttribute("aria-sort");
    table.classList.remove("sorted");
  };
  columns.forEach((column, index) => {
    const button = make("button", { type: "button", title: "Sort by this column" }, ...column.childNodes);
    column.append(button);
    button.addEventListener("click", () => {
      const before = column.getAttribute("aria-sort");
      reset();
      if (before === "descending") return; // third click: the order of the table
      const sign = before === "ascending" ? -1 : 1;
      const rows = [...original.values()].flat().sort((a, b) => compareCells(a.cells[index], b.cells[index], sign));
      first.append(...rows);
      for (const heading of headings) heading.hidden = true;
      column.setAttribute("aria-sort", sign > 0 ? "ascending" : "descending");
      table.classList.add("sorted");
    });
  });
  return [...original.values()].flat();
}

for (const table of document.querySelectorAll("table.sortable")) {
  const rows = makeSortable(table);
  const count = make("span", { className: "soft" });
  count.setAttribute("role", "status");
  const input = make("input", { type: "search", placeholder: "part of a name" });
  input.addEventListener("input", () => {
    const words = input.value.toLowerCase().split(/\s+/);
    for (const row of rows) {
      const text = `${row.cells[0].dataset.section} ${row.textContent}`.toLowerCase();
      row.hidden = !words.every((word) => text.includes(word));
    }
    count.textContent = input.value ? `${rows.filter((row) => !row.hidden).length} of ${rows.length} rows` : "";
  });
  document.querySelector(`.tools[data-for="${table.id.replace("table-", "")}"]`).append(labelled("Filter", input), count);
}

{
  const claims = [...document.querySelectorAll(".claim")];
  const chosen = make("select", {}, ...["all", ...new Set(claims.map((each) => each.dataset.verdict))].map((name) => option([name, name])));
  chosen.addEventListener("change", () => {
    for (const each of claims) each.hidden = chosen.value !== "all" && each.dataset.verdict !== chosen.value;
  });
  document.getElementById("claim-filter")?.append(labelled("Show claims that are", chosen));
}

// --- a number's record in a dialog ---

const dialog = document.getElementById("record");

function openSource(anchor) {
  const target = document.getElementById(anchor);
  const article = target?.closest("article");
  if (!article) return false;
  const copy = article.cloneNode(true);
  if (target.matches("tr")) {
    const [name, value, error, n] = [...target.cells].map((cell) => cell.textContent.trim());
    const answer = `${name} = ${value}${error === "–" ? "" : ` ± ${error}`}, N = ${n}`;
    copy.querySelector("h3").after(make("p", { className: "answer", textContent: answer }));
    [...copy.querySelectorAll("tr")].find((row) => row.id === anchor).classList.add("hit");
  }
  for (const each of [copy, ...copy.querySelectorAll("[id]")]) each.removeAttribute("id");
  copy.querySelector("h3").id = "record-title";
  dialog.querySelector("div").replaceChildren(copy);
  dialog.showModal();
  dialog.scrollTop = 0;
  return true;
}

document.addEventListener("click", (event) => {
  const link = event.target.closest("a[href^='#'], svg a");
  const href = link?.getAttribute("href") ?? "";
  if (/^#[rp]\d+(-|$)/.test(href) && !event.ctrlKey && !event.metaKey && openSource(href.slice(1))) event.preventDefault();
});
dialog.addEventListener("click", (event) => event.target === dialog && dialog.close());

// --- quality against cost ---

const SVG = "http://www.w3.org/2000/svg";
const draw = (tag, attributes, ...children) => {
  const element = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
};
const SHAPES = ["M-5,0a5,5 0 1,0 10,0a5,5 0 1,0 -10,0z", "M-5,-5h10v10h-10z", "M0,-6l6,11h-12z", "M0,-6.5l6.5,6.5l-6.5,6.5l-6.5,-6.5z", "M0,6l6,-11h-12z", "M-2,-6h4v4h4v4h-4v4h-4v-4h-4v-4h4z"];

function ticks(low, high, log) {
  if (log) {
    const found = [];
    for (let power = Math.floor(Math.log10(low)); power <= Math.ceil(Math.log10(high)); power++) {
      for (const digit of [1, 2, 5]) found.push(digit * 10 ** power);
    }
    const inside = found.filter((value) => value >= low && value <= high);
    const tens = inside.filter((value) => Math.abs(Math.log10(value) % 1) < 1e-9);
    return tens.length > 3 ? tens : inside;
  }
  const step = 10 ** Math.floor(Math.log10((high - low) / 3));
  const size = [1, 2, 5, 10].map((each) => each * step).find((each) => (high - low) / each <= 6);
  return Array.from({ length: Math.floor(high / size) - Math.ceil(low / size) + 1 }, (_, i) => (Math.ceil(low / size) + i) * size);
}

function axisOf(values, length, from, sign) {
  let [low, high] = [Math.min(...values), Math.max(...values)];
  const log = low > 0 && high / low > 8;
  const to = log ? Math.log : (value) => value;
  const margin = (to(high) - to(low)) * 0.1 || (log ? 0.1 : Math.abs(low) * 0.1 || 1);
  const [start, end] = [to(low) - margin, to(high) + margin];
  const place = (value) => from + (sign * (to(value) - start) * length) / (end - start);
  return { place, log, ticks: log ? ticks(Math.exp(start), Math.exp(end), true) : ticks(start, end, false) };
}

function makeScatter() {
  const data = JSON.parse(document.getElementById("scatter-data").textContent);
  const plot = document.getElementById("scatter-plot");
  if (!Object.keys(data.qualities).length) {
    plot.append(make("p", { textContent: "No points: nothing was measured yet." }));
    return;
  }
  const families = Object.keys(data.colours);
  const shape = (family) => SHAPES[families.indexOf(family) % SHAPES.length];
  const quality = make("select", {}, ...Object.entries(data.qualities).map(option));
  const cost = make("select", {});
  const place = make("select", {});
  const printed = make("input", { type: "checkbox" });
  document.getElementById("scatter-tools").append(
    labelled("Quality", quality), labelled("Cost", cost), labelled("Data", place), labelled("the paper's points", printed));
  const refill = (select, entries, keep) => {
    select.replaceChildren(...entries.map(option));
    if (entries.some(([value]) => value === keep)) select.value = keep;
  };
  const measured = () => data.points.filter((point) => !point.published && quality.value in point.qualities);
  const update = () => {
    refill(place, [...new Set(measured().map((point) => point.place))].map((name) => [name, name]), place.value);
    const here = measured().filter((point) => point.place === place.value);
    const spread = (name) => new Set(here.filter((point) => name in point.costs).map((point) => point.costs[name])).size;
    const costs = Object.entries(data.costs).filter(([name]) => spread(name));
    refill(cost, [...costs.filter(([name]) => spread(name) > 1), ...costs.filter(([name]) => spread(name) === 1)], cost.value);
    show();
  };
  const show = () => {
    const beside = data.places[place.value].paper;
    const onAxes = data.points.filter((point) => quality.value in point.qualities && cost.value in point.costs
      && (point.published ? beside.includes(point.place) : point.place === place.value));
    printed.disabled = !onAxes.some((point) => point.published);
    const points = onAxes.filter((point) => !point.published || printed.checked);
    const narrow = plot.clientWidth < 600;
    const [width, height, left, bottom, right] = narrow ? [400, 380, 56, 48, 12] : [960, 480, 64, 52, 24];
    const xs = points.map((point) => point.costs[cost.value]);
    const ys = points.flatMap((point) => {
      const [value, error] = point.qualities[quality.value];
      return [value, ...(error ? [value - error, value + error] : [])];
    });
    const x = axisOf(xs, width - left - right, left, 1);
    const y = axisOf(ys, height - bottom - 16, height - bottom, -1);
    const text = (value) => (Math.abs(value) >= 1e5 ? value.toExponential(0) : Number(value.toPrecision(3)).toLocaleString("en"));
    const svg = draw("svg", { viewBox: `0 0 ${width} ${height}`, role: "group", "aria-label": `${data.qualities[quality.value]} over ${data.costs[cost.value]}, ${place.value}` });
    for (const value of x.ticks) {
      svg.append(draw("line", { class: "grid", x1: x.place(value), x2: x.place(value), y1: 8, y2: height - bottom }),
        draw("text", { x: x.place(value), y: height - bottom + 18, "text-anchor": "middle" }, text(value)));
    }
    for (const value of y.ticks) {
      svg.append(draw("line", { class: "grid", x1: left, x2: width - right, y1: y.place(value), y2: y.place(value) }),
        draw("text", { x: left - 6, y: y.place(value) + 4, "text-anchor": "end" }, text(value)));
    }
    svg.append(draw("text", { x: (left + width - right) / 2, y: height - 8, "text-anchor": "middle" }, `${data.costs[cost.value]}${x.log ? ", log scale" : ""}`),
      draw("text", { x: 14, y: (height - bottom) / 2, "text-anchor": "middle", transform: `rotate(-90 14 ${(height - bottom) / 2})` }, `${data.qualities[quality.value]}${y.log ? ", log scale" : ""}`));
    const labels = [];
    for (const point of points) {
      const [value, error, anchor] = point.qualities[quality.value];
      const [px, py] = [x.place(point.costs[cost.value]), y.place(value)];
      const colour = data.colours[point.family];
      const told = `${point.name}: ${text(value)}${error ? ` ± ${text(error)}` : ""}, ${text(point.costs[cost.value])}`;
      const link = draw("a", { href: `#${anchor}`, "aria-label": told }, draw("title", {}, told));
      if (error) link.append(draw("path", { d: `M${px},${y.place(value - error)}V${y.place(value + error)}`, stroke: colour, "stroke-width": 1.5 }));
      link.append(draw("path", { d: shape(point.family), transform: `translate(${px} ${py})${point.own ? " scale(1.6)" : ""}`, stroke: colour, "stroke-width": 2, fill: point.published ? "var(--panel)" : colour }));
      const atEnd = px > width * 0.7;
      let ly = py - 8;
      while (labels.some(([lx, other]) => Math.abs(lx - px) < (narrow ? 150 : 200) && Math.abs(other - ly) < 12)) ly += 12;
      labels.push([px, ly]);
      if (!narrow) link.append(draw("text", { x: px + (atEnd ? -9 : 9), y: ly, "text-anchor": atEnd ? "end" : "start" }, (point.own ? "★ " : "") + point.name));
      svg.append(link);
    }
    plot.replaceChildren(svg);
    const shown = families.filter((family) => points.some((point) => point.family === family));
    document.getElementById("scatter-legend").replaceChildren(...shown.map((family) =>
      make("li", {}, draw("svg", { viewBox: "-8 -8 16 16", "aria-hidden": "true" }, draw("path", { d: shape(family), fill: data.colours[family] })), family)));
  };
  const reach = () => { printed.checked = data.places[place.value].same; update(); };
  quality.addEventListener("change", update);
  place.addEventListener("change", reach);
  cost.addEventListener("change", show);
  printed.addEventListener("change", show);
  update();
  reach();
}
makeScatter();

// --- reconstructions: a slider between the original and an autoencoder's, zoom, differences ---

function makeViewer(gallery) {
  const strips = [...gallery.querySelectorAll(".strip")];
  const tiles = strips.map((strip) => [...strip.querySelectorAll("img")]);
  const names = strips.map((strip) => strip.dataset.name);
  const told = strips.map((strip) => `${strip.dataset.name} ${strip.dataset.remark}`.trim());
  const values = strips.map((strip) => JSON.parse(strip.dataset.values));
  const columns = JSON.parse(gallery.dataset.columns);
  const byPicture = columns.length > 0; // a strip is a picture, its tiles are the original and each autoencoder's
  const tile = (which, index) => (byPicture ? tiles[index][which] : tiles[which][index]);
  const fit = Math.min(Number(gallery.dataset.side), gallery.clientWidth - 16);
  const canvas = (name) => {
    const element = make("canvas", { className: name });
    element.setAttribute("role", "img");
    return element;
  };
  const [below, above] = [canvas("original"), canvas("reconstruction")];
  const seam = make("div", { className: "seam" });
  const inner = make("div", {}, below, above, seam);
  const stage = make("div", { className: "stage", tabIndex: 0 }, inner);
  const entry = make("select", { className: "which" }, ...(byPicture ? columns : told).map((name, i) => option([i, name])).slice(1));
  const titles = byPicture ? names.map((name, i) => `${i + 1} ${name}`) : tiles[0].map((_, i) => i + 1);
  const image = make("select", { className: "image" }, ...titles.map((title, i) => option([i, title])));
  const view = make("select", { className: "view" }, ...[["slider", "slider"], ["1", "difference"], ["4", "difference × 4"]].map(option));
  const zoom = make("input", { type: "range", min: 1, max: 8, step: 1, className: "zoom" });
  const slider = make("input", { type: "range", min: 0, max: 100, value: 50, className: "slider" });
  const output = make("output", {});
  const context = (each) => each.getContext("2d", { willReadFrequently: true });
  zoom.value = Math.max(1, Math.min(8, Math.floor(Math.min(384, gallery.clientWidth - 16) / fit)));
  const pixels = (source) => {
    context(above).drawImage(source, 0, 0);
    return context(above).getImageData(0, 0, above.width, above.height);
  };
  let last = 0;
  const show = async () => {
    const turn = ++last;
    const [which, index] = [Number(entry.value), Number(image.value)];
    const sources = [tile(0, index), tile(which, index)];
    for (const each of sources) each.loading = "eager";
    await Promise.all(sources.map((each) => each.decode()));
    if (turn !== last) return; // another image was chosen meanwhile
    for (const each of [below, above]) [each.width, each.height] = [sources[0].naturalWidth, sources[0].naturalHeight];
    const [a, b] = sources.map(pixels);
    context(below).putImageData(a, 0, 0);
    const gain = Number(view.value) || 0;
    let squares = 0;
    for (let i = 0; i < a.data.length; i++) {
      if (i % 4 === 3) continue;
      const difference = b.data[i] - a.data[i];
      squares += difference * difference;
      if (gain) b.data[i] = Math.min(255, gain * Math.abs(difference));
    }
    context(above).putImageData(b, 0, 0);
    const error = squares / (3 * below.width * below.height);
    const computed = `PSNR of this image ${error ? `${(10 * Math.log10(255 ** 2 / error)).toFixed(2)} dB` : "∞"}`;
    output.textContent = byPicture ? values[index][which] : computed;
    below.setAttribute("aria-label", `original, image ${titles[index]}`);
    above.setAttribute("aria-label", `${gain ? "difference of " : ""}${(byPicture ? columns : names)[which]}, image ${titles[index]}`);
    thumbnails.forEach((each, i) => each.setAttribute("aria-current", i === index));
    slider.disabled = Boolean(gain);
    move();
  };
  const move = () => {
    const share = slider.disabled ? 0 : Number(slider.value);
    above.style.clipPath = `inset(0 0 0 ${share}%)`;
    seam.style.left = `${share}%`;
    seam.hidden = slider.disabled;
    slider.setAttribute("aria-valuetext", `original on the left ${share} %`);
  };
  const enlarge = () => {
    for (const each of [below, above]) each.style.width = each.style.height = `${fit * zoom.value}px`;
  };
  for (const each of [entry, image, view]) each.addEventListener("change", show);
  slider.addEventListener("input", move);
  zoom.addEventListener("input", enlarge);
  stage.addEventListener("pointermove", (event) => {
    if (event.buttons !== 1 || slider.disabled) return;
    const box = inner.getBoundingClientRect();
    slider.value = (100 * (event.clientX - box.left)) / box.width;
    move();
  });
  const thumbnails = byPicture ? titles.map((title, i) => {
    const picture = make("img", { src: tile(0, i).src, alt: "", loading: "lazy", width: 96, height: 96 });
    const button = make("button", { type: "button" }, picture, make("span", {}, title), make("span", { className: "soft" }, strips[i].dataset.remark));
    button.addEventListener("click", () => { image.value = i; show(); });
    return button;
  }) : [];
  if (byPicture) gallery.querySelector(".viewer").append(make("ol", { className: "thumbnails" }, ...thumbnails.map((each) => make("li", {}, each))));
  gallery.querySelector(".viewer").append(
    make("div", { className: "tools" }, labelled("Autoencoder", entry), labelled("Image", image), labelled("View", view), labelled("Zoom", zoom)),
    make("div", { className: "tools" }, labelled("Original ↔ reconstruction", slider), output), stage);
  show();
  enlarge();
}

for (const gallery of document.querySelectorAll(".gallery")) {
  if (gallery.querySelector(".strip")) makeViewer(gallery);
}
