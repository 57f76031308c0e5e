// The fleet: its nodes, the requests on them, and one request with a line for each node.

import { html, useEffect, useMemo, useState } from "../vendor/preact.js";
import { downloadFrom, get, remove } from "../api.js";
import { Bar, Empty, LongList, Problem, State, Sure, useLoaded } from "../parts.js";
import { bytesOf, packetsOf } from "../records.js";
import { ago, count, moment, plural, seconds, size } from "../words.js";

const NODES = [
  { title: "Node", width: "minmax(8rem, 1.5fr)" },
  { title: "State", width: "6rem" },
  { title: "Seen", width: "8rem" },
  { title: "Version", width: "6rem" },
  { title: "Labels", width: "minmax(6rem, 2fr)" },
  { title: "Recorders reach back", width: "minmax(8rem, 1.5fr)" },
  { title: "Memory", width: "minmax(8rem, 1fr)" },
  { title: "Running", width: "5rem" },
];
const REQUESTS = [
  { title: "First seen", width: "11rem" },
  { title: "Request", width: "minmax(8rem, 2fr)" },
  { title: "Nodes", width: "minmax(8rem, 2fr)" },
  { title: "Cause", width: "minmax(6rem, 1fr)" },
  { title: "Filter", width: "minmax(6rem, 1fr)" },
  { title: "Packets", width: "6rem" },
  { title: "Size", width: "6rem" },
];
const ANSWERS = [
  { title: "Node", width: "minmax(8rem, 1fr)" },
  { title: "State", width: "7rem" },
  { title: "Packets", width: "14rem" },
  { title: "Size", width: "6rem" },
  { title: "Captures", width: "minmax(10rem, 3fr)" },
];
const POLL_EVERY = 2000;

function open(id) {
  location.hash = `#/fleet/${encodeURIComponent(id)}`;
}

function textOf(node) {
  const labels = Object.entries(node.labels || {}).map(([name, value]) => `${name}=${value}`);
  return [node.node, node.version, ...labels, ...(node.interface || [])].join(" ").toLowerCase();
}

export function FleetView({ fleet }) {
  const [search, setSearch] = useState("");
  const words = search.toLowerCase().split(/\s+/).filter(Boolean);
  const nodes = fleet ? fleet.sortedNodes : [];
  const shown = useMemo(() => nodes.filter((node) => words.every((word) => textOf(node).includes(word))), [nodes, search]);
  const alive = nodes.filter((node) => fleet.isAlive(node)).length;
  if (!fleet?.loaded) return html`<h1 tabindex="-1">Fleet</h1><p class="loading">Loading</p>`;
  const broken = Object.entries(fleet.buses).filter(([, why]) => why);
  return html`
    <h1 tabindex="-1">Fleet</h1>
    <p role="status">${plural(nodes.length, "node")}, ${count(alive)} alive, ${count(nodes.length - alive)} silent; ${plural(fleet.sortedRequests.length, "request")}</p>
    ${Object.keys(fleet.buses).length === 0 && html`<p class="warning">No bus of this node has a place for results that several can read, so it hears of no node.</p>`}
    ${broken.map(([name, why]) => html`<p class="problem">${name}: ${why}</p>`)}
    <p><a class="button" href="#/capture?fleet=true">Capture on several nodes</a></p>
    <h2>Nodes</h2>
    <form class="search" role="search" onSubmit=${(event) => event.preventDefault()}>
      <label for="node-search">Search by name, version, label or interface</label>
      <input id="node-search" type="search" value=${search} onInput=${(event) => setSearch(event.target.value)} />
    </form>
    ${shown.length === 0 && html`<${Empty}>${nodes.length ? "No node has all of these words." : "No node has answered yet."}<//>`}
    ${shown.length > 0 && html`<${LongList} rows=${shown} columns=${NODES} row=${(node) => nodeCells(node, fleet)} label="Nodes" keyOf=${(one) => one.node} />`}
    <h2>Requests</h2>
    ${fleet.sortedRequests.length === 0 && html`<${Empty}>No request was heard of yet.<//>`}
    ${fleet.sortedRequests.length > 0 && html`<${LongList} rows=${fleet.sortedRequests} columns=${REQUESTS} row=${requestCells} label="Requests of the fleet" onOpen=${(one) => open(one.id)} keyOf=${(one) => one.id} />`}`;
}

function nodeCells(node, fleet) {
  const { recorders = [] } = node;
  const labels = Object.entries(node.labels || {}).map(([name, value]) => `${name}=${value}`).join(", ");
  const reach = recorders.map((one) => `${one.interface} ${seconds(one.covered)}`).join(", ");
  const alive = fleet.isAlive(node);
  const name = /^https?:\/\//.test(node.url || "") ? html`<a href=${node.url} rel="noreferrer noopener">${node.node}</a>` : node.node;
  return [
    name,
    html`<${State} name=${alive ? "alive" : "silent"} />`,
    ago(node.seen_at, fleet.now),
    node.version || "",
    html`<span title=${labels}>${labels}</span>`,
    html`<span title=${reach}>${recorders.length ? html`<${Bar} value=${recorders[0].covered} of=${recorders[0].seconds} label=${`How far back ${recorders[0].interface} reaches`} text=${reach} />` : "none"}</span>`,
    node.memory ? html`<${Bar} value=${node.used} of=${node.memory} label=${`Memory of ${node.node}`} text=${size(node.used)} />` : "",
    (node.running || []).length,
  ];
}

function States({ states }) {
  return Object.entries(states).map(([name, number]) => html`<${State} name=${name} /> ${count(number)} `);
}

function requestCells(one) {
  const cause = one.cause ? [one.cause.system, one.cause.title || one.cause.id].filter(Boolean).join(": ") : "";
  return [
    moment(one.seen_at),
    html`<a href=${`#/fleet/${encodeURIComponent(one.id)}`} tabindex="-1" title=${one.id}>${one.id}</a>`,
    html`<${States} states=${one.states} />`,
    html`<span title=${cause}>${cause}</span>`,
    html`<code title=${one.bpf || ""}>${one.bpf || ""}</code>`,
    count(one.packets),
    size(one.bytes),
  ];
}

export function FleetRequestView({ fleet, route }) {
  const path = `/fleet/captures/${encodeURIComponent(route.id)}`;
  const known = fleet?.requests.get(route.id);
  const [tick, setTick] = useState(0);
  const [request, problem] = useLoaded((signal) => get(path, signal), [path, tick, known]);
  const [refused, setRefused] = useState(null);
  const waiting = !request?.nodes || request.states.running;
  useEffect(() => {
    if (!waiting) return undefined;
    const timer = setTimeout(() => setTick((number) => number + 1), POLL_EVERY);
    return () => clearTimeout(timer);
  }, [waiting, request, problem]);
  const records = useMemo(() => (request ? Object.entries(request.records).sort(([a], [b]) => a.localeCompare(b)) : []), [request]);
  const most = Math.max(1, ...records.map(([, record]) => packetsOf(record)));
  const [chosen, choose] = useState("");
  const [busy, setBusy] = useState(false);
  const merge = (partial) => {
    setRefused(null);
    setBusy(true);
    downloadFrom(`${path}/merged${partial ? "?partial=true" : ""}`, `${route.id}.pcapng`).catch(setRefused).finally(() => setBusy(false));
  };
  return html`
    <p><a href="#/fleet">The fleet</a></p>
    <h1 tabindex="-1">${route.id}</h1>
    <${Problem} error=${refused || problem} />
    ${refused?.status === 422 && html`<p><button type="button" onClick=${() => merge(true)}>Merge without them</button></p>`}
    ${request && html`
      <p role="status">${request.nodes ? "" : "No node has answered yet. "}${plural(request.nodes, "node")}: <${States} states=${request.states} /></p>
      <p>${plural(request.packets, "packet")}, ${size(request.bytes)}${request.bpf && html`, filter <code>${request.bpf}</code>`}</p>
      <p class="buttons">
        ${request.states.running && html`<${Sure} onSure=${() => remove(path).catch(setRefused)}>Stop on all nodes<//>`}
        ${request.files > 0 && html`<button type="button" class="main" disabled=${busy} onClick=${() => merge(false)}>${busy ? "Merging …" : "Download one file of all nodes"}</button>`}
      </p>
      ${records.length > 0 && html`
        <${LongList} rows=${records} columns=${ANSWERS} row=${(one) => answerCells(one, most)} label="Nodes of the request" keyOf=${([name]) => name} onOpen=${([name]) => choose(name)} />
        <p class="note">Choose a node to see its captures.</p>`}
      ${chosen && request.records[chosen] && html`<section aria-label=${chosen}>
        <h2>${chosen} <button type="button" onClick=${() => choose("")}>Close</button></h2>
        <${Captures} record=${request.records[chosen]} fleet=${fleet} name=${chosen} />
      </section>`}`}`;
}

// What became of the request on a node, in a line.
function inWords(record) {
  if (record.state === "dryrun") return `would capture on ${(record.interface || []).join(", ") || "nothing"}`;
  const captures = record.captures.map((one) => [one.interface, one.state, one.reason].filter(Boolean).join(" "));
  return [...record.problems, ...captures].join("; ");
}

function answerCells([name, record], most) {
  const words = inWords(record);
  return [
    name,
    html`<${State} name=${record.state} />`,
    html`<${Bar} value=${packetsOf(record)} of=${most} label=${`Packets of ${name}`} text=${count(packetsOf(record))} />`,
    size(bytesOf(record)),
    html`<span title=${words}>${words}</span>`,
  ];
}

function Captures({ record, fleet, name }) {
  const url = fleet?.nodes.get(name)?.url || "";
  return html`
    ${record.problems.map((words) => html`<p>${words}</p>`)}
    ${record.state === "dryrun" && html`<p>${inWords(record)}</p>`}
    ${Object.entries(record.unavailable || {}).map(([one, why]) => html`<p class="note">${one}: ${why}</p>`)}
    ${(record.warnings || []).map((words) => html`<p class="note">${words}</p>`)}
    ${record.captures.map((one) => html`<p>
      ${one.interface} <${State} name=${one.state} /> ${one.reason}
      ${(one.missing || []).length > 0 && html` <span class="note">incomplete: ${one.missing.join("; ")}</span>`}
      ${Object.entries(one.delivered || {}).map(([place, receipt]) => html` <span class="note">${place}: ${receipt.where}</span>
        ${/^https?:\/\//.test(receipt.link || "") && html` <a href=${receipt.link} rel="noreferrer noopener" target="_blank">open there</a>`}`)}
    </p>`)}
    ${/^https?:\/\//.test(url) && record.state !== "rejected" && html`<p><a href=${`${url.replace(/\/$/, "")}/console/#/captures/${encodeURIComponent(record.id)}`} rel="noreferrer noopener">on ${name}</a></p>`}`;
}
