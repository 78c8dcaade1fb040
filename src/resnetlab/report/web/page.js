// Charts of the page: uPlot draws them; this adds what it lacks (keys, names, values, a table, themes, print).
(() => {
  "use strict";
  const root = document.documentElement;
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const figures = JSON.parse(document.getElementById("charts").textContent);
  const redraws = new Map(); // of each container, what draws it again
  const HEIGHT = 300;
  const ACROSS = 10; // points, with Page Up and Page Down

  const isDark = () => dark.matches && !root.classList.contains("print");
  const colour = name => getComputedStyle(root).getPropertyValue(name).trim();
  const element = (tag, properties = {}, ...children) => {
    const made = document.createElement(tag);
    for (const [name, value] of Object.entries(properties))
      name in made ? (made[name] = value) : made.setAttribute(name, value);
    made.append(...children);
    return made;
  };
  const text = value => (value == null ? "–" : Math.abs(value) >= 1e5 || (value && Math.abs(value) < 1e-3)
    ? Number(value.toPrecision(3)).toExponential() : String(Number(value.toPrecision(4))));

  // A colour of the series that can be seen on the page: dark ones are mixed with white on a dark page
  function visible(hex) {
    const parts = [1, 3, 5].map(k => parseInt(hex.slice(k, k + 2), 16));
    const light = (0.2126 * parts[0] + 0.7152 * parts[1] + 0.0722 * parts[2]) / 255;
    const share = !isDark() || light > 0.4 ? 0 : light < 0.2 ? 0.75 : 0.3;
    return "#" + parts.map(v => Math.round(v + share * (255 - v)).toString(16).padStart(2, "0")).join("");
  }

  const stroke = series => visible(series.colour) + (series.faint ? "55" : "");

  function sample(series) {
    const canvas = element("canvas", { width: 24, height: 10 });
    canvas.setAttribute("aria-hidden", "true");
    const pen = canvas.getContext("2d");
    pen.strokeStyle = pen.fillStyle = stroke(series);
    pen.lineWidth = Math.max(1, series.width);
    pen.setLineDash(series.dash);
    if (series.width) {
      pen.moveTo(0, 5); pen.lineTo(24, 5); pen.stroke();
    }
    if (series.points) {
      pen.beginPath(); pen.arc(12, 5, 3, 0, 7); pen.fill();
    }
    return canvas;
  }

  // The number of the point of a series that is nearest to x
  function nearest(series, x) {
    if (x < series.x[0] || x > series.x[series.x.length - 1]) return null;
    let best = 0;
    for (let k = 1; k < series.x.length; k++)
      if (Math.abs(series.x[k] - x) < Math.abs(series.x[best] - x)) best = k;
    return best;
  }

  function valuesTable(panel, xs) {
    const head = element("tr", {}, ...[panel.x, ...panel.series.map(s => s.name)].map(name =>
      element("th", { scope: "col", textContent: name })));
    const places = panel.series.map(s => new Map(s.x.map((x, k) => [x, s.y[k]])));
    const rows = xs.map(x => element("tr", {}, element("th", { scope: "row", textContent: text(x) }),
      ...places.map(values => element("td", { className: "number", textContent: values.has(x) ? text(values.get(x)) : "" }))));
    const table = element("table", {}, element("thead", {}, head), element("tbody", {}, ...rows));
    const scroll = element("div", { className: "scroll", tabIndex: 0 }, table);
    scroll.setAttribute("role", "region");
    scroll.setAttribute("aria-label", `Values, ${panel.title || panel.y}`);
    return scroll;
  }

  function drawPanel(panel, title, into) {
    let zoom = null, chart = null, at = -1;
    const shown = panel.series.map(() => true);
    const plot = element("div", { className: "plot", tabIndex: 0 });
    plot.setAttribute("role", "application"); // so that screen readers pass the arrow keys on
    plot.setAttribute("aria-roledescription", "chart");
    plot.setAttribute("aria-label", `${panel.title || title}: ${panel.y} over ${panel.x}. ` +
      "Left and right move through the points, plus and minus zoom, 0 shows all.");
    const told = element("p", { className: "note" });
    told.setAttribute("aria-live", "polite");
    const values = panel.series.map(() => element("span", { className: "value" }));

    // uPlot's own logarithmic scale does not draw more than some 30 powers of 10
    const scaled = v => (!panel.log || v == null ? v : v > 0 ? Math.log10(v) : null);
    const unscaled = v => (panel.log ? 10 ** v : v);

    // One list of x for all series, as uPlot takes it
    const parts = panel.series.map(s => {
      const band = s.low.length ? [s.low.map(scaled), s.high.map(scaled)] : [];
      return [s.x, s.y.map(scaled), ...band];
    });
    const data = uPlot.join(parts);
    const xs = data[0], columns = [];
    parts.reduce((column, part) => (columns.push(column), column + part.length - 1), 1);
    const full = [panel.xRange[0] ?? xs[0], panel.xRange[1] ?? xs[xs.length - 1]];
    if (full[0] === full[1]) { full[0] -= 1; full[1] += 1; }

    function options(width) {
      const series = [{ label: panel.x }], bands = [];
      panel.series.forEach((s, k) => {
        series.push({ label: s.name, show: shown[k], stroke: stroke(s), width: s.width, dash: s.dash, spanGaps: true,
          points: { show: s.points, size: 7, fill: stroke(s) } });
        if (s.low.length) {
          for (const name of ["lowest", "highest"])
            series.push({ label: `${s.name}, ${name}`, show: shown[k], width: 0, spanGaps: true, points: { show: false } });
          bands.push({ series: [columns[k] + 2, columns[k] + 1], fill: visible(s.colour) + "22" });
        }
      });
      const axis = { stroke: colour("--text"), grid: { stroke: colour("--grid"), width: 1 },
        ticks: { stroke: colour("--line"), width: 1 }, font: "12px system-ui", labelFont: "12px system-ui", labelSize: 16 };
      const yRange = (_, low, high) => {
        const [bottom, top] = panel.yRange.map(scaled);
        if (low == null) return [bottom ?? 0, top ?? 1];
        const space = 0.08 * (high - low) || Math.abs(high) * 0.1 || 1;
        return zoom ? [low - space, high + space] : [bottom ?? low - space, top ?? high + space];
      };
      return {
        width, height: HEIGHT, series, bands, legend: { show: false },
        scales: { x: { time: false, range: () => zoom ?? full }, y: { range: yRange } },
        axes: [{ ...axis, label: panel.x }, { ...axis, label: panel.y,
          size: (_, shown) => 22 + 7 * Math.max(...(shown ?? [""]).map(s => s.length)),
          values: (_, ticks) => ticks.map(tick => (tick == null ? "" : text(unscaled(tick)))) }],
        cursor: { y: false, drag: { setScale: false, x: true, y: false } },
        hooks: {
          setSelect: [u => {
            if (u.select.width > 4)
              setZoom([u.posToVal(u.select.left, "x"), u.posToVal(u.select.left + u.select.width, "x")]);
            u.setSelect({ left: 0, top: 0, width: 0, height: 0 }, false);
          }],
          setCursor: [u => tell(u.cursor.idx)],
        },
      };
    }

    function setZoom(range) {
      zoom = range && range[1] > range[0] ? range : null;
      chart.setData(data);
    }

    function tell(index) {
      panel.series.forEach((s, k) => {
        const near = index == null ? null : nearest(s, xs[index]);
        values[k].textContent = near == null ? (index == null ? "" : "–") : text(s.y[near]) + (s.notes[near] ? ` ${s.notes[near]}` : "");
      });
      place.textContent = index == null ? "" : `at ${text(xs[index])}`;
    }

    function moveTo(index) {
      at = Math.min(xs.length - 1, Math.max(0, index));
      if (zoom && (xs[at] < zoom[0] || xs[at] > zoom[1])) {
        const half = (zoom[1] - zoom[0]) / 2;
        setZoom([xs[at] - half, xs[at] + half]);
      }
      // uPlot changes its scales after this function; the cursor is placed by the new ones
      queueMicrotask(() => {
        chart.setCursor({ left: chart.valToPos(xs[at], "x"), top: 20 });
        say();
      });
    }

    function say() {
      tell(at);
      const lines = panel.series.flatMap((s, k) => (shown[k] ? [`${s.name} ${values[k].textContent}`] : []));
      told.textContent = `${panel.x} ${text(xs[at])}: ${lines.join("; ")}`;
    }

    function scale(factor) {
      const [left, right] = zoom ?? full, middle = at >= 0 ? xs[at] : (left + right) / 2;
      const half = ((right - left) * factor) / 2;
      setZoom(half * 2 >= full[1] - full[0] ? null : [middle - half, middle + half]);
    }

    const keys = { ArrowRight: () => moveTo(at + 1), ArrowLeft: () => moveTo(at - 1), Home: () => moveTo(0),
      End: () => moveTo(xs.length - 1), PageUp: () => moveTo(at - ACROSS), PageDown: () => moveTo(at + ACROSS),
      "+": () => scale(0.5), "=": () => scale(0.5), "-": () => scale(2), 0: () => setZoom(null) };
    plot.addEventListener("keydown", event => {
      if (!(event.key in keys) || event.ctrlKey || event.metaKey || event.altKey) return;
      event.preventDefault();
      keys[event.key]();
    });
    plot.addEventListener("dblclick", () => setZoom(null));

    const place = element("span");
    const button = (label, name, act) => {
      const made = element("button", { type: "button", textContent: label, onclick: act });
      made.setAttribute("aria-label", `${name}, ${panel.title || title}`);
      return made;
    };
    const controls = element("div", { className: "controls" },
      button("+", "Zoom in", () => scale(0.5)), button("−", "Zoom out", () => scale(2)),
      button("all", "Show all", () => setZoom(null)), place);
    const list = element("ul", { className: "series" });
    const listed = () => list.replaceChildren(...panel.series.map((s, k) => {
      const toggle = element("button", { type: "button" }, sample(s), s.name);
      toggle.setAttribute("aria-pressed", shown[k]);
      toggle.addEventListener("click", () => {
        shown[k] = !shown[k];
        toggle.setAttribute("aria-pressed", shown[k]);
        for (let c = columns[k]; c < columns[k] + parts[k].length - 1; c++) chart.setSeries(c, { show: shown[k] });
      });
      return element("li", {}, toggle, values[k]);
    }));
    const table = element("details", {}, element("summary", { textContent: "Values as a table" }));
    table.addEventListener("toggle", () => table.children.length < 2 && table.append(valuesTable(panel, xs)));

    into.append(element("div", { className: "panel" }, ...(panel.title ? [element("p", { className: "of", textContent: panel.title })] : []),
      plot, controls, list, told, table));

    const draw = () => {
      chart?.destroy();
      listed();
      chart = new uPlot(options(plot.clientWidth), data, plot);
    };
    draw();
    new ResizeObserver(() => chart.width !== plot.clientWidth && plot.clientWidth &&
      chart.setSize({ width: plot.clientWidth, height: HEIGHT })).observe(plot);
    return draw;
  }

  function draw(container) {
    if (redraws.has(container)) return;
    const figure = figures[container.dataset.chart];
    redraws.set(container, figure.panels.map(panel => drawPanel(panel, figure.title, container)));
  }
  const drawAgain = () => redraws.forEach(draws => draws.forEach(again => again()));

  const containers = [...document.querySelectorAll(".charts")];
  const seen = new IntersectionObserver(entries => entries.forEach(entry => {
    if (!entry.isIntersecting) return;
    seen.unobserve(entry.target);
    draw(entry.target);
  }), { rootMargin: "400px" });
  containers.forEach(container => seen.observe(container));
  dark.addEventListener("change", drawAgain);
  addEventListener("beforeprint", () => { root.classList.add("print"); containers.forEach(draw); drawAgain(); });
  addEventListener("afterprint", () => { root.classList.remove("print"); drawAgain(); });
})();
