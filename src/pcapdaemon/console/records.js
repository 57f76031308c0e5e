// The records of requests, as the API has them, kept current by its events.

import { get, pathOf } from "./api.js";

const MOST = 1000;
const WAIT = 250;
const AT_ONCE = 4;

export class Records {
  constructor(onChange) {
    this.byId = new Map();
    this.error = null;
    this.loaded = false;
    this.sorted = [];
    this.onChange = onChange;
    this.wanted = new Set();
    this.touched = new Set();
    this.loading = 0;
    this.timer = null;
    this.stopped = false;
  }

  // Newest first.
  get all() {
    return this.sorted;
  }

  async load() {
    const touched = (this.touched = new Set());
    try {
      const found = await get(`/captures?limit=${MOST}`);
      if (this.touched !== touched) return; // a later one began
      for (const id of touched) this.want(id); // it changed meanwhile
      this.byId = new Map(found.map((record) => [record.id, record]));
      this.error = null;
      this.loaded = true;
    } catch (error) {
      this.error = error;
    }
    this.changed();
  }

  onEvent(kind, data) {
    const record = this.byId.get(data.id);
    if (kind === "progress" && record) {
      const captures = record.captures.map((one) => (one.interface === data.interface ? { ...one, ...data, state: "running", id: undefined, node: undefined } : one));
      this.byId.set(data.id, { ...record, captures });
      this.changed();
      return;
    }
    this.want(data.id);
  }

  want(id) {
    this.touched.add(id);
    this.wanted.add(id);
    this.timer ||= setTimeout(() => this.loadWanted(), WAIT);
  }

  // Loads the records that changed, a few at a time, so that a storm of requests is no storm here.
  async loadWanted() {
    this.timer = null;
    while (this.wanted.size && this.loading < AT_ONCE && !this.stopped) {
      const [id] = this.wanted;
      this.wanted.delete(id);
      this.loading += 1;
      this.loadOne(id);
    }
  }

  async loadOne(id) {
    try {
      this.byId.set(id, await get(pathOf(id)));
    } catch (error) {
      if (error.status === 404) this.byId.delete(id);
    }
    this.loading -= 1;
    this.changed();
    this.loadWanted();
  }

  changed() {
    if (this.stopped) return;
    this.sorted = [...this.byId.values()].sort((a, b) => b.received_at - a.received_at);
    this.onChange();
  }

  stop() {
    this.stopped = true;
    clearTimeout(this.timer);
  }
}

// The state of a request in one word: that of its captures, the worst first.
const WORST = ["failed", "lost", "spooled", "running", "starting", "delivering", "delivered", "empty"];

export function stateOf(record) {
  if (record.state !== "finished") return record.state;
  const states = record.captures.map((one) => one.state);
  return WORST.find((state) => states.includes(state)) || record.state;
}

export function packetsOf(record) {
  return record.captures.reduce((sum, one) => sum + (one.packets || 0), 0);
}

export function bytesOf(record) {
  return record.captures.reduce((sum, one) => sum + (one.bytes || 0), 0);
}

// What caused a request, in a few words.
export function causeOf(record) {
  const { cause } = record;
  return cause ? [cause.system, cause.title || cause.id].filter(Boolean).join(": ") : record.source;
}

// Everything that people may search a record by, in lower case.
export function textOf(record) {
  const { cause = {} } = record;
  const own = [record.id, record.node, record.source, record.customer, record.tags, record.bpf, record.comment, record.alertid];
  const captures = record.captures.flatMap((one) => [one.interface, one.file_name, one.state]);
  return [...own, ...Object.values(cause || {}), ...captures, stateOf(record)].filter(Boolean).join(" ").toLowerCase();
}
