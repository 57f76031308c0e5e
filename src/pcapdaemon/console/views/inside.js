// What is in a savefile: packets over time, who talks to whom, and the packets in words.

import { html, useEffect, useMemo, useRef, useState } from "../vendor/preact.js";
import { get, pathOf } from "../api.js";
import { Bar, Empty, LongList, Plot, Problem, useLoaded } from "../parts.js";
import { bits, clock, count, perSecond, plural, seconds, size } from "../words.js";

const PAGE = 200;
const COLUMNS = [
  { title: "No.", width: "4.5rem" },
  { title: "Time", width: "9rem" },
  { title: "Source", width: "minmax(7rem, 1fr)" },
  { title: "Destination", width: "minmax(7rem, 1fr)" },
  { title: "Protocol", width: "6rem" },
  { title: "Length", width: "5rem" },
  { title: "Info", width: "minmax(10rem, 3fr)" },
];

export function Inside({ id, name, bytes }) {
  const path = pathOf(id, "files", name);
  const [summary, problem] = useLoaded((signal) => get(`${path}/summary`, signal), [path]);
  const [packets, setPackets] = useState([]);
  const [refused, setRefused] = useState(null);
  const [ended, setEnded] = useState(false);
  const [chosen, choose] = useState(null);
  const more = (known) =>
    get(`${path}/packets?first=${known.length + 1}&limit=${PAGE}`).then(
      (found) => {
        setRefused(null);
        setPackets([...known, ...found.packets]);
        setEnded(found.packets.length < PAGE);
      },
      (error) => setRefused(error),
    );
  useEffect(() => {
    more([]);
  }, [path]);
  return html`<div class="inside">
    <${Problem} error=${problem || refused} />
    ${!summary && !problem && html`<p class="loading">Reading</p>`}
    ${summary && html`<${Summary} summary=${summary} />`}
    ${packets.length > 0 && html`
      <h4>Packets</h4>
      <${LongList} rows=${packets} columns=${COLUMNS} row=${cells} label="Packets" keyOf=${(one) => one.number} onOpen=${bytes ? choose : undefined} />
      <p class="note">
        ${ended ? `All ${plural(packets.length, "packet")} are shown.` : html`The first ${count(packets.length)} packets. <button type="button" onClick=${() => more(packets)}>Show more</button>`}
        ${bytes && " Choose a packet to see its bytes."}
        ${" "}Wireshark shows everything else: download the savefile.
      </p>`}
    ${chosen && html`<${Bytes} path=${path} packet=${chosen} onClose=${() => choose(null)} />`}
  </div>`;
}

function cells(one) {
  const info = [...(one.tags || []), one.comment ? `[${one.comment}]` : "", one.info].filter(Boolean).join(" ");
  return [one.number, clock(one.at, 6), one.source, one.destination, one.protocol, one.length, html`<span title=${info}>${info}</span>`];
}

function Summary({ summary }) {
  const { over_time: over } = summary;
  const plot = useMemo(() => {
    const times = over.packets.map((_, n) => over.begin + n * over.step);
    const rates = [["Packets a second", over.packets.map((one) => one / over.step), perSecond], ["Bits a second", over.bytes.map((one) => (one * 8) / over.step), bits]];
    return [times, rates];
  }, [summary]);
  if (summary.packets === 0) return html`<${Empty}>The savefile has no packet. ${summary.reason}<//>`;
  const time = summary.last_packet_at - summary.first_packet_at;
  const most = Math.max(...Object.values(summary.protocols));
  const largest = Math.max(...summary.talkers.map((one) => one.bytes));
  return html`
    <p>${plural(summary.packets, "packet")}, ${size(summary.bytes)} on the wire, within ${seconds(time)}.
      ${!summary.whole && html` <strong>Only the first part of the file was read${summary.reason ? `: ${summary.reason}` : ""}.</strong>`}</p>
    ${plot[0].length > 2 && html`<${Plot} times=${plot[0]} lines=${plot[1]} label="Packets and bits a second over time" />`}
    <div class="columns">
      <section><h4>Protocols</h4><table class="plain"><thead><tr><th>Protocol</th><th>Packets</th></tr></thead>
        <tbody>${Object.entries(summary.protocols).map(([name, number]) => html`<tr><td>${name}</td><td><${Bar} value=${number} of=${most} label=${`Packets of ${name}`} text=${count(number)} /></td></tr>`)}</tbody></table></section>
      <section><h4>Top talkers</h4><table class="plain"><thead><tr><th>Between</th><th>Packets</th><th>Bytes</th></tr></thead>
        <tbody>${summary.talkers.map((one) => html`<tr><td>${one.between.filter(Boolean).join(" and ") || "unknown"}</td><td class="number">${count(one.packets)}</td><td><${Bar} value=${one.bytes} of=${largest} label=${`Bytes between ${one.between.join(" and ")}`} text=${size(one.bytes)} /></td></tr>`)}</tbody></table></section>
    </div>`;
}

// The bytes of a packet as Wireshark shows them.
export function hexdump(hex) {
  const lines = [];
  for (let at = 0; at < hex.length; at += 32) {
    const pairs = hex.slice(at, at + 32).match(/../g) || [];
    const text = pairs.map((pair) => {
      const code = parseInt(pair, 16);
      return code >= 32 && code < 127 ? String.fromCharCode(code) : ".";
    });
    lines.push(`${(at / 2).toString(16).padStart(4, "0")}  ${pairs.join(" ").padEnd(47)}  ${text.join("")}`);
  }
  return lines.join("\n");
}

function Bytes({ path, packet, onClose }) {
  const [found, problem] = useLoaded((signal) => get(`${path}/packets?first=${packet.number}&limit=1&bytes=true`, signal), [path, packet.number]);
  const data = found?.packets[0]?.data;
  const head = useRef(null);
  useEffect(() => head.current?.focus(), [packet.number]);
  return html`<section class="bytes" aria-label=${`Packet ${packet.number}`}>
    <h4 tabindex="-1" ref=${head}>Packet ${packet.number} <button type="button" onClick=${onClose}>Close</button></h4>
    <p>${packet.info}</p>
    <${Problem} error=${problem} />
    ${data !== undefined && html`<pre tabindex="0">${hexdump(data)}</pre>`}
  </section>`;
}
