// Past and running requests: a timeline, a search, and a list of any length.

import { html, useMemo, useState } from "../vendor/preact.js";
import { Empty, LongList, Plot, Problem, State } from "../parts.js";
import { bytesOf, causeOf, packetsOf, stateOf, textOf } from "../records.js";
import { count, moment, plural, size } from "../words.js";

const COLUMNS = [
  { title: "Received", width: "minmax(9rem, 11rem)" },
  { title: "State", width: "minmax(6rem, 8rem)" },
  { title: "Request", width: "minmax(8rem, 2fr)" },
  { title: "Cause", width: "minmax(6rem, 2fr)" },
  { title: "Interfaces", width: "minmax(5rem, 1fr)" },
  { title: "Filter", width: "minmax(6rem, 2fr)" },
  { title: "Packets", width: "6rem" },
  { title: "Size", width: "6rem" },
];
const STEPS = 120;

// How many requests came in each part of the time between the first and the last.
export function histogram(records) {
  const times = records.map((one) => one.received_at).filter((at) => at > 0);
  if (times.length < 2) return null;
  const first = Math.min(...times);
  const step = Math.max((Math.max(...times) - first) / STEPS, 1);
  const counts = new Array(STEPS + 1).fill(0);
  for (const at of times) counts[Math.min(STEPS, Math.floor((at - first) / step))] += 1;
  return [counts.map((_, n) => first + (n + 0.5) * step), counts];
}

export function RequestsView({ records, route }) {
  const [search, setSearch] = useState(route.query.get("search") || "");
  const [between, setBetween] = useState(null);
  const all = records.all;
  const words = search.toLowerCase().split(/\s+/).filter(Boolean);
  const found = useMemo(() => all.filter((record) => words.length === 0 || (({ text }) => words.every((word) => text.includes(word)))({ text: textOf(record) })), [all, search]);
  const shown = between ? found.filter((one) => one.received_at >= between[0] && one.received_at <= between[1]) : found;
  const timeline = useMemo(() => histogram(found), [found]);
  const lines = useMemo(() => timeline && [["Requests", timeline[1], count]], [timeline]);
  const choose = (which, text) => {
    const at = text ? new Date(text).getTime() / 1000 : which ? Infinity : 0;
    setBetween((known) => (which ? [known?.[0] || 0, at] : [at, known?.[1] || Infinity]));
  };
  const open = (record) => {
    location.hash = `#/captures/${encodeURIComponent(record.id)}`;
  };
  return html`
    <h1 tabindex="-1">Captures</h1>
    <form class="search" role="search" onSubmit=${(event) => event.preventDefault()}>
      <label for="search">Search by id, cause, customer, tag, node, filter, interface or state</label>
      <input id="search" type="search" value=${search} onInput=${(event) => setSearch(event.target.value)} />
      <p class="note" role="status">${plural(shown.length, "request")}${between ? `${between[0] ? ` from ${moment(between[0])}` : ""}${between[1] < Infinity ? ` to ${moment(between[1])}` : ""}` : ""}</p>
      <details>
        <summary>Choose a time</summary>
        <label for="from">From</label>
        <input id="from" type="datetime-local" step="1" onChange=${(event) => choose(0, event.target.value)} />
        <label for="to">To</label>
        <input id="to" type="datetime-local" step="1" onChange=${(event) => choose(1, event.target.value)} />
      </details>
      ${between && html`<button type="button" onClick=${() => setBetween(null)}>Show all times</button>`}
    </form>
    <${Problem} error=${records.error} />
    ${timeline && html`<${Plot} times=${timeline[0]} lines=${lines} height=${90} bars=${true} label="Requests over time. Drag to choose a time." onSelect=${(from, to) => to > from && setBetween([from, to])} />`}
    ${records.loaded && shown.length === 0 && html`<${Empty}>
      ${all.length ? "No request has all of these words." : html`This node has captured nothing yet. <a href="#/capture">Start a capture</a>.`}
    <//>`}
    ${shown.length > 0 && html`<${LongList} rows=${shown} columns=${COLUMNS} row=${cells} label="Requests" onOpen=${open} keyOf=${(one) => one.id} />`}`;
}

function cells(record) {
  return [
    moment(record.received_at),
    html`<${State} name=${stateOf(record)} />`,
    html`<a href=${`#/captures/${encodeURIComponent(record.id)}`} tabindex="-1" title=${record.id}>${record.id}</a>`,
    html`<span title=${causeOf(record)}>${causeOf(record)}</span>`,
    record.captures.map((one) => one.interface).join(", "),
    html`<code title=${record.bpf || ""}>${record.bpf || ""}</code>`,
    count(packetsOf(record)),
    size(bytesOf(record)),
  ];
}
