// Small things that several views need.

import { html, useEffect, useLayoutEffect, useMemo, useRef, useState } from "./vendor/preact.js";
import uPlot from "./vendor/uplot.js";
import { Refused } from "./api.js";
import { clock } from "./words.js";

// A state in words, with a colour and a sign, because not everybody sees colours.
const SIGNS = {
  running: ["live", "●"],
  starting: ["live", "○"],
  delivering: ["live", "↑"],
  spooled: ["waits", "…"],
  delivered: ["good", "✓"],
  finished: ["good", "✓"],
  alive: ["good", "✓"],
  dryrun: ["good", "✓"],
  unreachable: ["bad", "✗"],
  connected: ["good", "✓"],
  ready: ["good", "✓"],
  "not ready": ["bad", "✗"],
  empty: ["dull", "∅"],
  cancelled: ["dull", "■"],
  silent: ["dull", "?"],
  failed: ["bad", "✗"],
  lost: ["bad", "✗"],
  rejected: ["bad", "✗"],
  disconnected: ["bad", "✗"],
};

export function State({ name }) {
  const [kind, sign] = SIGNS[name] || ["dull", "·"];
  return html`<span class=${`state ${kind}`}><span aria-hidden="true">${sign}</span> ${name}</span>`;
}

export function Problem({ error }) {
  if (!error) return null;
  const problems = error.problems?.length
    ? error.problems.map((one) => `${one.field}: ${one.message}`.replace(/^: /, ""))
    : [error.message];
  return html`<div class="problem" role="alert">
    ${problems.map((one) => html`<p>${one}</p>`)}
    ${error.hint && html`<p class="hint">${error.hint}</p>`}
  </div>`;
}

export function Empty({ children }) {
  return html`<p class="empty">${children}</p>`;
}

// Loads something again whenever `keys` change. Returns [value, error, reload].
export function useLoaded(load, keys) {
  const [found, setFound] = useState([undefined, undefined]);
  const [again, setAgain] = useState(0);
  useEffect(() => {
    const stop = new AbortController();
    load(stop.signal).then(
      (value) => stop.signal.aborted || setFound([value, undefined]),
      (error) => {
        if (stop.signal.aborted) return;
        const shown = error instanceof Refused ? error : new Refused(0, { detail: String(error) });
        setFound(([value]) => [value, shown]);
      },
    );
    return () => stop.abort();
  }, [...keys, again]);
  return [...found, () => setAgain((number) => number + 1)];
}

// A bar with a number beside it. `of` is the whole.
export function Bar({ value, of, label, text }) {
  const share = of > 0 ? Math.min(1, value / of) : 0;
  return html`<span class="bar">
    <meter min="0" max="1" value=${share} aria-label=${label}></meter>
    <span class="number">${text}</span>
  </span>`;
}

const ROW = 34;
const BEYOND = 6;

// A list of any length: only the rows that can be seen are in the page. `row` returns the cells.
export function LongList({ rows, columns, row, label, onOpen, keyOf }) {
  const box = useRef(null);
  const wanted = useRef(null);
  const [top, setTop] = useState(0);
  const [high, setHigh] = useState(600);
  const [at, setAt] = useState(0);
  useLayoutEffect(() => {
    const measure = () => box.current && setHigh(box.current.clientHeight || 600);
    measure();
    window.addEventListener("resize", measure);
    return () => window.removeEventListener("resize", measure);
  }, [rows.length]);
  const last = Math.max(0, rows.length - 1);
  const first = Math.max(0, Math.floor(top / ROW) - BEYOND);
  const end = Math.min(rows.length, Math.ceil((top + high) / ROW) + BEYOND);
  const go = (to) => {
    const next = Math.min(last, Math.max(0, to));
    setAt(next);
    const edge = next * ROW;
    if (edge < box.current.scrollTop) box.current.scrollTop = edge;
    if (edge + 2 * ROW > box.current.scrollTop + high) box.current.scrollTop = edge + 2 * ROW - high;
    setTop(box.current.scrollTop);
    wanted.current = next;
  };
  // the row that is to have the focus may only be in the page after this
  useLayoutEffect(() => {
    const row = wanted.current === null ? null : box.current.querySelector(`[data-row="${wanted.current}"]`);
    if (!row) return;
    wanted.current = null;
    row.focus({ preventScroll: true });
  });
  const page = Math.max(1, Math.floor(high / ROW) - 2);
  const steps = { ArrowDown: 1, ArrowUp: -1, PageDown: page, PageUp: -page, Home: -last, End: last };
  const onKey = (event) => {
    // by the row that has the focus: new rows may have moved it
    const here = Number(event.target.closest("[data-row]")?.dataset.row ?? at);
    if (event.key in steps) {
      event.preventDefault();
      go(here + steps[event.key]);
    } else if (event.key === "Enter" && onOpen && rows[here]) {
      onOpen(rows[here]);
    }
  };
  const shown = rows.slice(first, end);
  const place = useMemo(() => (element, offset) => element && (element.style.top = `${offset}px`), []);
  return html`<div
    class="long-list" role="table" aria-label=${label} aria-rowcount=${rows.length + 1}
    style=${{ "--columns": columns.map((one) => one.width || "1fr").join(" ") }}
  >
    <div class="row head" role="row" aria-rowindex="1">
      ${columns.map((one) => html`<span role="columnheader">${one.title}</span>`)}
    </div>
    <div class="scroller" role="rowgroup" ref=${box} style=${{ height: `min(60vh, ${rows.length * ROW + 2}px)` }} onScroll=${(event) => setTop(event.target.scrollTop)} onKeyDown=${onKey}>
      <div role="presentation" class="whole" style=${{ height: `${rows.length * ROW}px` }}>
        ${shown.map((one, n) => {
          const number = first + n;
          return html`<div
            class="row" role="row" key=${keyOf(one)} data-row=${number} aria-rowindex=${number + 2}
            tabindex=${number === Math.min(Math.max(at, first), end - 1) ? 0 : -1}
            ref=${(element) => place(element, number * ROW)}
            onFocus=${() => setAt(number)} onClick=${(event) => onOpen && !event.target.closest("a") && onOpen(one)}
          >
            ${row(one).map((cell) => html`<span role="cell">${cell}</span>`)}
          </div>`;
        })}
      </div>
    </div>
  </div>`;
}

function colours() {
  const style = getComputedStyle(document.documentElement);
  const read = (name) => style.getPropertyValue(name).trim();
  return { text: read("--dim"), grid: read("--line"), lines: [read("--blue"), read("--green")] };
}

// A plot over time. `lines` are [label, values, words for a value]; `times` are seconds.
// If plots can't be drawn, the page shows the numbers.
export function Plot({ times, lines, height = 160, label, onSelect, bars = false }) {
  const box = useRef(null);
  const plot = useRef(null);
  const [scheme, setScheme] = useState(0);
  useEffect(() => {
    const dark = window.matchMedia("(prefers-color-scheme: dark)");
    const changed = () => setScheme((number) => number + 1);
    dark.addEventListener("change", changed);
    return () => dark.removeEventListener("change", changed);
  }, []);
  useEffect(() => {
    const { text, grid, lines: pens } = colours();
    const axis = { stroke: text, grid: { stroke: grid, width: 1 }, ticks: { stroke: grid } };
    const series = lines.map(([name, , words], n) => ({
      label: name, stroke: pens[n % pens.length], width: 1.5, scale: `y${n}`,
      value: (_, value) => (value === null || value === undefined ? "" : words(value)),
      points: { show: false },
      ...(bars ? { paths: uPlot.paths.bars({ size: [0.8, 20] }), fill: pens[n % pens.length] } : {}),
    }));
    const scales = Object.fromEntries(lines.map((_, n) => [`y${n}`, { range: (__, ___, most) => [0, Math.max(most || 0, 1)] }]));
    const axes = lines.map(([, , words], n) => ({
      ...axis, scale: `y${n}`, side: n === 0 ? 3 : 1, size: 84, grid: n ? { show: false } : axis.grid,
      values: (_, values) => values.map(words),
    }));
    const made = new uPlot({
      width: box.current.clientWidth || 600, height,
      scales: { x: { time: true }, ...scales },
      series: [{ label: "Time", value: (_, at) => (at ? clock(at, 3) : "") }, ...series],
      axes: [{ ...axis, values: (u, splits) => splits.map((at) => clock(at, u.scales.x.max - u.scales.x.min < 5 ? 2 : 0)) }, ...axes],
      cursor: { drag: { x: Boolean(onSelect), y: false, setScale: false } },
      hooks: onSelect ? { setSelect: [(u) => onSelect(u.posToVal(u.select.left, "x"), u.posToVal(u.select.left + u.select.width, "x"))] } : {},
    }, [times, ...lines.map(([, values]) => values)], box.current);
    plot.current = made;
    const resize = () => made.setSize({ width: box.current.clientWidth || 600, height });
    window.addEventListener("resize", resize);
    return () => {
      window.removeEventListener("resize", resize);
      made.destroy();
      plot.current = null;
    };
  }, [lines.length, height, scheme]);
  useEffect(() => {
    plot.current?.setData([times, ...lines.map(([, values]) => values)]);
  }, [times, lines]);
  return html`<div class="plot" ref=${box} role="img" aria-label=${label}></div>`;
}

// A button that asks once more before it does something that can't be undone.
export function Sure({ children, onSure, disabled }) {
  const [asked, setAsked] = useState(false);
  useEffect(() => {
    if (!asked) return undefined;
    const timer = setTimeout(() => setAsked(false), 5000);
    return () => clearTimeout(timer);
  }, [asked]);
  const act = () => {
    if (asked) onSure();
    setAsked(!asked);
  };
  return html`<button type="button" class=${asked ? "sure" : ""} disabled=${disabled} onClick=${act}>
    ${asked ? "Press again to confirm" : children}
  </button>`;
}

export function Copy({ text, children }) {
  const [done, setDone] = useState(false);
  useEffect(() => {
    if (!done) return undefined;
    const timer = setTimeout(() => setDone(false), 2000);
    return () => clearTimeout(timer);
  }, [done]);
  const copy = async () => {
    const copied = await navigator.clipboard.writeText(text).then(() => true, () => false);
    setDone(copied);
  };
  // without TLS, browsers only let pages of this host use the clipboard
  if (!navigator.clipboard) return null;
  return html`<button type="button" onClick=${copy}>${done ? "Copied" : children}</button>`;
}
