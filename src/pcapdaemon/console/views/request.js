// One request and its whole story: what caused it, what was captured, what is missing, where it is.

import { html, useEffect, useState } from "../vendor/preact.js";
import { download, get, pathOf, remove } from "../api.js";
import { Bar, Copy, Empty, Problem, State, Sure, useLoaded } from "../parts.js";
import { causeOf, stateOf } from "../records.js";
import { count, moment, plural, seconds, size } from "../words.js";
import { Inside } from "./inside.js";

const POLL_EVERY = 1000;

export function RequestView({ about, records, route }) {
  const known = records.byId.get(route.id);
  const [tick, setTick] = useState(0);
  // counters of a running capture, also if the events do not come
  const changed = known && JSON.stringify([known.state, known.captures.map((one) => [one.state, one.pending, one.lost])]);
  const [loaded, problem] = useLoaded((signal) => get(pathOf(route.id), signal), [route.id, tick, changed]);
  const record = loaded || known;
  const running = record?.state === "running" && problem?.status !== 404;
  useEffect(() => {
    if (!running) return undefined;
    const timer = setTimeout(() => setTick((number) => number + 1), POLL_EVERY);
    return () => clearTimeout(timer);
  }, [running, loaded, problem]);
  const [refused, setRefused] = useState(null);
  const stop = () => remove(pathOf(route.id)).then(() => setTick((number) => number + 1), setRefused);
  if (!record) {
    return html`<h1 tabindex="-1">${route.id}</h1>
      ${problem ? html`<${Problem} error=${problem} />` : html`<p class="loading">Loading</p>`}`;
  }
  return html`
    <p><a href="#/captures">All captures</a></p>
    <h1 tabindex="-1">${record.id}</h1>
    <p role="status"><${State} name=${stateOf(record)} /> <span class="note">${record.node}, received ${moment(record.received_at)} over ${record.source}</span></p>
    ${record.problems.length > 0 && html`<${Problem} error=${{ problems: record.problems.map((message) => ({ field: "", message })) }} />`}
    ${record.warnings.map((words) => html`<p class="warning">${words}</p>`)}
    <${Problem} error=${refused || problem} />
    ${running && html`<p><${Sure} onSure=${stop}>Stop<//></p>`}
    <${Asked} record=${record} />
    ${record.captures.map((capture) => html`<${Capture} key=${capture.interface} capture=${capture} record=${record} about=${about} />`)}
    ${record.captures.length === 0 && record.state === "finished" && html`<${Empty}>Nothing was captured.<//>`}`;
}

function Asked({ record }) {
  const { cause, limits } = record;
  const facts = [
    ["Cause", cause && html`${causeOf(record)}${/^https?:\/\//.test(cause.url || "") ? html` <a href=${cause.url} rel="noreferrer noopener" target="_blank">open</a>` : ""}`],
    ["Filter", record.bpf && html`<code>${record.bpf}</code>`],
    ["Alert", record.alertid],
    ["Requester", record.requester],
    ["Customer", record.customer],
    ["Tags", record.tags],
    ["Comment", record.comment],
    ["Joined", record.joined && html`its captures are those of <a href=${`#/captures/${encodeURIComponent(record.joined)}`}>${record.joined}</a>`],
    ["Limits", limits.packets && `${count(limits.packets)} packets, ${size(limits.bytes)}, ${seconds(limits.duration)}, ${seconds(limits.timeout)} without a packet`],
  ].filter(([, value]) => value);
  return html`<dl class="facts">${facts.map(([name, value]) => html`<dt>${name}</dt><dd>${value}</dd>`)}</dl>`;
}

function Capture({ capture, record, about }) {
  const [open, setOpen] = useState(false);
  const { lookback } = capture;
  const running = capture.state === "running";
  const ended = Boolean(capture.stop_reason);
  const has = Boolean(capture.file_name);
  const why = [...(capture.missing || []), lookback?.reason && `before the trigger: ${lookback.reason}`].filter(Boolean);
  const facts = [
    ["Target", capture.target && Object.entries(capture.target).filter(([, value]) => typeof value === "string" || Array.isArray(value)).map(([name, value]) => `${name} ${value}`).join(", ")],
    ["Began", capture.started_at && moment(capture.started_at)],
    ["Packets", html`<${Bar} value=${capture.packets} of=${record.limits.packets} label="Packets of the limit" text=${count(capture.packets)} />`],
    ["Size", html`<${Bar} value=${capture.bytes} of=${record.limits.bytes} label="Bytes of the limit" text=${size(capture.bytes)} />`],
    ["Before the trigger", lookback && `${plural(lookback.packets, "packet")}, ${seconds(lookback.covered)} of ${seconds(lookback.asked)}${lookback.reason ? `: ${lookback.reason}` : ""}`],
    ["First packet", capture.first_packet_at && moment(capture.first_packet_at, 6)],
    ["Last packet", capture.last_packet_at && moment(capture.last_packet_at, 6)],
    ["Ended by", ended && `${capture.stop_reason}, after ${seconds(capture.seconds)}`],
    ["Dropped", (running || ended) && count(capture.dropped + capture.dropped_by_interface)],
    ["SHA-256", capture.sha256 && html`<code class="digest">${capture.sha256}</code> <${Copy} text=${capture.sha256}>Copy<//>`],
  ].filter(([, value]) => value);
  return html`<section class="capture-of">
    <h2>${capture.interface} <${State} name=${capture.state} /></h2>
    ${capture.reason && html`<p class=${["failed", "lost"].includes(capture.state) ? "problem" : "warning"}>${capture.reason} ${capture.hint}</p>`}
    ${ended && (why.length === 0
      ? has && html`<p class="note"><span class="state good"><span aria-hidden="true">✓</span> complete</span> Every packet that was asked for is in the savefile, as far as is known.</p>`
      : html`<p class="warning">Incomplete: ${why.join("; ")}</p>`)}
    <dl class="facts">${facts.map(([name, value]) => html`<dt>${name}</dt><dd>${value}</dd>`)}</dl>
    <${Places} capture=${capture} />
    ${has && html`<${Savefile} id=${record.joined || record.id} name=${capture.file_name} about=${about} open=${open} setOpen=${setOpen} />`}
  </section>`;
}

function Places({ capture }) {
  const rows = [
    ...Object.entries(capture.delivered).map(([name, receipt]) => [name, "delivered", receipt]),
    ...capture.pending.map((name) => [name, capture.state === "spooled" ? "spooled" : "delivering", null]),
    ...Object.entries(capture.lost).map(([name, why]) => [name, "lost", { where: why }]),
  ];
  if (rows.length === 0) return null;
  return html`<h3>Destinations</h3>
    <dl class="facts">${rows.map(([name, state, receipt]) => html`<dt>${name}</dt>
      <dd><${State} name=${state} /> ${receipt?.where}
        ${/^https?:\/\//.test(receipt?.link || "") && html` <a href=${receipt.link} rel="noreferrer noopener" target="_blank">open there</a>`}</dd>`)}</dl>`;
}

function Savefile({ id, name, about, open, setOpen }) {
  const [refused, setRefused] = useState(null);
  const { console: may } = about;
  return html`
    <h3>${name}</h3>
    <p class="buttons">
      ${may.download && html`<button type="button" class="main" onClick=${() => { setRefused(null); download(id, name).catch(setRefused); }}>Download</button>`}
      ${may.preview && html`<button type="button" aria-expanded=${open} onClick=${() => setOpen(!open)}>Look inside</button>`}
    </p>
    ${!may.download && html`<p class="note">This node does not hand out savefiles: [console] download = false.</p>`}
    <${Problem} error=${refused} />
    ${open && html`<${Inside} id=${id} name=${name} bytes=${may.download} />`}`;
}
