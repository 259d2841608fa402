"use strict";
(() => {
  const byId = (name) => document.getElementById(name);

  // Charts: the values under the pointer, or under the arrow keys.
  for (const svg of document.querySelectorAll("svg[data-lines]")) {
    const lines = JSON.parse(svg.dataset.lines);
    const [low, high, begin, end, logarithmic] = JSON.parse(svg.dataset.x);
    const axis = logarithmic ? Math.log : (value) => value;
    const at = (x) => begin + ((axis(x) - axis(low)) / (axis(high) - axis(low))) * (end - begin);
    const places = [...new Set(lines.flatMap((line) => line.points.map((p) => p[0])))].sort((a, b) => a - b);
    const rule = svg.querySelector(".rule");
    const output = svg.parentElement.querySelector("output");
    let current = -1;
    const show = (index) => {
      current = Math.max(0, Math.min(places.length - 1, index));
      const x = places[current];
      rule.setAttribute("x1", at(x));
      rule.setAttribute("x2", at(x));
      rule.style.visibility = "visible";
      const known = lines.map((line) => [line.name, line.points.find((p) => p[0] === x)]);
      output.textContent = `${svg.dataset.label} ${x}: ` + known
        .filter(([, point]) => point)
        .map(([name, point]) => (lines.length > 1 ? `${name} ${point[1]}` : `${point[1]}`)).join(", ");
    };
    const hide = () => { rule.style.visibility = "hidden"; output.textContent = ""; };
    svg.addEventListener("pointermove", (event) => {
      const box = svg.getBoundingClientRect();
      const x = ((event.clientX - box.left) / box.width) * svg.viewBox.baseVal.width;
      let best = 0;
      places.forEach((place, i) => { if (Math.abs(at(place) - x) < Math.abs(at(places[best]) - x)) best = i; });
      show(best);
    });
    svg.addEventListener("pointerleave", hide);
    svg.addEventListener("focus", () => { if (svg.matches(":focus-visible")) show(current < 0 ? places.length - 1 : current); });
    svg.addEventListener("blur", hide);
    svg.addEventListener("keydown", (event) => {
      const to = { ArrowLeft: current - 1, ArrowRight: current + 1, Home: 0, End: places.length - 1 }[event.key];
      if (to === undefined) return;
      event.preventDefault();
      show(to);
    });
  }

  // Everything that is folded is printed.
  const unfolded = [];
  addEventListener("beforeprint", () => {
    for (const one of document.querySelectorAll("details:not([open])")) { one.open = true; unfolded.push(one); }
  });
  addEventListener("afterprint", () => { while (unfolded.length) unfolded.pop().open = false; });

  const store = byId("map-data");
  if (!store) return;

  // The map.
  const unpack = (text, Kind) => {
    const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
    return new Kind(bytes.buffer);
  };
  const runs = JSON.parse(store.textContent);
  const canvas = byId("map-canvas"), pen = canvas.getContext("2d");
  const MARKS = ["circle", "square", "triangle", "diamond"], COLOURS = 7, MARGIN = 14;
  const sprites = new Map();
  let run, points, labels, neighbours, lit = null, current = -1, xs, ys;

  const mark = (to, kind, x, y, r) => {
    if (kind === 0) { to.moveTo(x + r, y); to.arc(x, y, r, 0, 7); }
    else if (kind === 1) to.rect(x - r * 0.9, y - r * 0.9, r * 1.8, r * 1.8);
    else if (kind === 2) { to.moveTo(x, y - r * 1.2); to.lineTo(x + r * 1.15, y + r); to.lineTo(x - r * 1.15, y + r); to.closePath(); }
    else { to.moveTo(x, y - r * 1.3); to.lineTo(x + r * 1.3, y); to.lineTo(x, y + r * 1.3); to.lineTo(x - r * 1.3, y); to.closePath(); }
  };
  const colourOf = (label) => `--c${label % COLOURS}`;
  const markOf = (label) => Math.floor(label / COLOURS) % MARKS.length;
  const nameOf = (i) => (labels[i] ? run.classes[labels[i] - 1] : "no class");

  const draw = () => {
    const ratio = devicePixelRatio || 1, width = canvas.clientWidth, height = canvas.clientHeight;
    if (canvas.width !== Math.round(width * ratio)) { canvas.width = Math.round(width * ratio); canvas.height = Math.round(height * ratio); }
    const style = getComputedStyle(document.documentElement);
    const count = labels.length;
    // Both axes have one scale: distances on the map are distances.
    const across = width - 2 * MARGIN, down = height - 2 * MARGIN;
    let [left, right, top, bottom] = [65535, 0, 65535, 0];
    for (let i = 0; i < count; i++) {
      left = Math.min(left, points[2 * i]); right = Math.max(right, points[2 * i]);
      top = Math.min(top, points[2 * i + 1]); bottom = Math.max(bottom, points[2 * i + 1]);
    }
    const scale = Math.min(across / Math.max(1, right - left), down / Math.max(1, bottom - top));
    xs = new Float32Array(count); ys = new Float32Array(count);
    for (let i = 0; i < count; i++) {
      xs[i] = width / 2 + (points[2 * i] - (left + right) / 2) * scale;
      ys[i] = height / 2 - (points[2 * i + 1] - (top + bottom) / 2) * scale;
    }
    const radius = Math.max(1.6, Math.min(4.5, 150 / Math.sqrt(count)));
    pen.setTransform(ratio, 0, 0, ratio, 0, 0);
    pen.clearRect(0, 0, width, height);
    const classes = run.classes.length;
    for (let label = 0; label <= classes; label++) {
      const own = label === 0 ? null : label - 1;
      pen.fillStyle = style.getPropertyValue(own === null ? "--faint" : colourOf(own));
      pen.globalAlpha = lit === null ? 0.75 : lit === own ? 0.95 : 0.08;
      pen.beginPath();
      for (let i = 0; i < count; i++) if (labels[i] === label) mark(pen, own === null ? 0 : markOf(own), xs[i], ys[i], radius);
      pen.fill();
    }
    pen.globalAlpha = 1;
    if (current >= 0) {
      pen.strokeStyle = style.getPropertyValue("--ink");
      pen.lineWidth = 1;
      pen.beginPath();
      for (let k = 0; k < run.kept; k++) {
        const other = neighbours[current * run.kept + k];
        pen.moveTo(xs[current], ys[current]); pen.lineTo(xs[other], ys[other]);
      }
      pen.stroke();
      pen.lineWidth = 2;
      pen.beginPath(); pen.arc(xs[current], ys[current], radius + 4, 0, 7); pen.stroke();
    }
  };

  const sprite = () => {
    if (!sprites.has(run.sprite)) {
      const image = new Image();
      image.addEventListener("load", picture);
      image.src = byId(`sprite-${run.sprite}`).textContent;
      sprites.set(run.sprite, image);
    }
    return sprites.get(run.sprite);
  };
  const paste = (to, index, x, size) => {
    const image = sprite(), { side, columns } = run;
    if (!image.complete || !image.naturalWidth) return;
    to.imageSmoothingEnabled = false;
    to.drawImage(image, (index % columns) * side, Math.floor(index / columns) * side, side, side, x, 0, size, size);
  };
  function picture() {
    const one = byId("map-thumbnail"), many = byId("map-near");
    const single = one.getContext("2d"), row = many.getContext("2d");
    single.clearRect(0, 0, one.width, one.height);
    row.clearRect(0, 0, many.width, many.height);
    if (current < 0) return;
    paste(single, current, 0, one.width);
    for (let k = 0; k < run.kept; k++) paste(row, neighbours[current * run.kept + k], k * 53, 48);
  }
  const select = (index) => {
    if (index === current) return;
    current = index;
    const near = Array.from({ length: run.kept }, (_, k) => nameOf(neighbours[index * run.kept + k]));
    byId("map-said").textContent = `Image ${index + 1} of ${labels.length}: ${nameOf(index)}. Nearest: ${near.join(", ")}.`;
    picture();
    draw();
  };

  const closest = (x, y, reach) => {
    let best = -1, least = reach * reach;
    for (let i = 0; i < labels.length; i++) {
      if (lit !== null && labels[i] !== lit + 1) continue;
      const distance = (xs[i] - x) ** 2 + (ys[i] - y) ** 2;
      if (distance < least) { least = distance; best = i; }
    }
    return best;
  };
  const towards = (dx, dy) => {
    let best = current, least = Infinity;
    for (let i = 0; i < labels.length; i++) {
      const x = xs[i] - xs[current], y = ys[i] - ys[current];
      const along = x * dx + y * dy, aside = Math.abs(x * dy) + Math.abs(y * dx);
      if (i === current || along <= 0 || aside > along || (lit !== null && labels[i] !== lit + 1)) continue;
      if (along + 2 * aside < least) { least = along + 2 * aside; best = i; }
    }
    return best;
  };
  const follow = (event) => {
    const box = canvas.getBoundingClientRect();
    const found = closest(event.clientX - box.left, event.clientY - box.top, 24);
    if (found >= 0) select(found);
  };
  canvas.addEventListener("pointermove", follow);
  canvas.addEventListener("pointerdown", follow);
  canvas.addEventListener("focus", () => { if (current < 0) select(closest(canvas.clientWidth / 2, canvas.clientHeight / 2, 1e5)); });
  canvas.addEventListener("keydown", (event) => {
    const ways = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
    let to;
    if (ways[event.key]) to = towards(...ways[event.key]);
    else if (event.key === "Home") to = 0;
    else if (event.key === "End") to = labels.length - 1;
    else if (event.key === "Enter") to = neighbours[current * run.kept];
    else return;
    event.preventDefault();
    select(to);
  });

  const legend = () => {
    const buttons = run.classes.map((name, label) => {
      const button = document.createElement("button");
      button.type = "button";
      button.setAttribute("aria-pressed", "false");
      const swatch = document.createElement("canvas");
      swatch.width = swatch.height = 24;
      swatch.style.width = swatch.style.height = "12px";
      swatch.setAttribute("aria-hidden", "true");
      swatch.dataset.label = label;
      button.append(swatch, name);
      button.addEventListener("click", () => {
        lit = lit === label ? null : label;
        for (const [i, other] of [...byId("map-classes").children].entries()) other.setAttribute("aria-pressed", String(lit === i));
        draw();
      });
      return button;
    });
    byId("map-classes").replaceChildren(...buttons);
    swatches();
  };
  function swatches() {
    const style = getComputedStyle(document.documentElement);
    for (const swatch of byId("map-classes").querySelectorAll("canvas")) {
      const to = swatch.getContext("2d"), label = Number(swatch.dataset.label);
      to.clearRect(0, 0, 24, 24);
      to.fillStyle = style.getPropertyValue(colourOf(label));
      to.beginPath(); mark(to, markOf(label), 12, 12, 8); to.fill();
    }
  }

  const choose = (index) => {
    run = runs[index];
    labels = unpack(run.labels, Uint16Array);
    neighbours = unpack(run.neighbours, Uint32Array);
    lit = null; current = -1;
    const names = Object.keys(run.projections);
    byId("map-projection").replaceChildren(...names.map((name) => new Option(name, name)));
    byId("map-note").textContent = run.note;
    legend();
    project(names[0]);
  };
  const project = (name) => { points = unpack(run.projections[name], Uint16Array); draw(); picture(); };
  const again = () => { draw(); swatches(); };
  byId("map-run").addEventListener("change", (event) => choose(Number(event.target.value)));
  byId("map-projection").addEventListener("change", (event) => project(event.target.value));
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", again);
  matchMedia("print").addEventListener("change", again);
  addEventListener("resize", draw);
  choose(0);
})();
