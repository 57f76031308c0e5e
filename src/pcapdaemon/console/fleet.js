// What is known of the fleet: the first event has everything, later ones have what changed.

const SILENT_AFTER = 90;

export class Fleet {
  constructor() {
    this.forget();
  }

  forget() {
    this.nodes = new Map();
    this.requests = new Map();
    this.buses = {};
    this.loaded = false;
    this.ahead = 0;
    this.sortedNodes = [];
    this.sortedRequests = [];
  }

  take(found) {
    for (const node of found.nodes) this.nodes.set(node.node, node);
    for (const request of found.requests) this.requests.set(request.id, request);
    this.buses = found.buses;
    this.ahead = found.at - Date.now() / 1000; // of the browser's clock
    this.loaded = true;
    this.sortedNodes = [...this.nodes.values()].sort((a, b) => a.node.localeCompare(b.node));
    this.sortedRequests = [...this.requests.values()].sort((a, b) => b.seen_at - a.seen_at);
  }

  // The time by the clock of the daemon.
  get now() {
    return Date.now() / 1000 + this.ahead;
  }

  // Events only have nodes that sent something, so whether one is silent is seen here.
  isAlive(node) {
    return this.now - node.seen_at < SILENT_AFTER;
  }
}

