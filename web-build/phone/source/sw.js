// Keeps every file of this page on the device, each checked by its digest, and answers from there
// alone: once installed, opening and using the page needs no network and asks none.
// FILES, POLICIES and OPERATORS are written above this line by `consilium phone build`. OPERATORS,
// of the encrypted mode alone, are whom a worker's own policy lets it ask; of their answers
// nothing is kept here.

const NAME = `consilium-${VERSION}`;

self.addEventListener("install", (event) => event.waitUntil(install()));
self.addEventListener("activate", (event) => event.waitUntil(activate()));
self.addEventListener("fetch", (event) => {
  if (OPERATORS.includes(new URL(event.request.url).origin)) return;
  event.respondWith(answer(event.request));
});
self.addEventListener("message", (event) => event.waitUntil(hand(event)));

async function install() {
  const cache = await caches.open(NAME);
  let loaded = 0;
  for (const [path, { integrity, size }] of Object.entries(FILES)) {
    const response = await fetch(path, { integrity, cache: "no-cache", credentials: "omit" });
    if (!response.ok) throw new Error(`${path}: ${response.status}`);
    await cache.put(path, response);
    loaded += size;
    await tell({ loaded, total: TOTAL });
  }
  await self.skipWaiting();
}

async function activate() {
  for (const name of await caches.keys())
    if (name.startsWith("consilium-") && name !== NAME) await caches.delete(name);
  await self.clients.claim();
}

async function tell(message) {
  for (const client of await self.clients.matchAll({ includeUncontrolled: true }))
    client.postMessage(message);
}

async function answer(request) {
  const scope = new URL(self.registration.scope);
  const url = new URL(request.url);
  const path = url.href.startsWith(scope.href)
    ? url.pathname.slice(scope.pathname.length) || "index.html"
    : "";
  const found = request.method === "GET" && path in FILES ? await held(path) : undefined;
  if (!found) return new Response("", { status: 404, statusText: "not part of this page" });
  const headers = new Headers(POLICIES[path] ?? POLICIES["*"]);
  headers.set("Content-Type", FILES[path].type);
  return new Response(found.body, { headers });
}

async function held(path) {
  return (await caches.open(NAME)).match(path);
}

/** Hands files to the page, which may not ask for them itself; or takes all of them away. */
async function hand({ data, ports: [port] }) {
  if (data.forget) {
    for (const name of await caches.keys())
      if (name.startsWith("consilium-")) await caches.delete(name);
    await self.registration.unregister();
    return port.postMessage({});
  }
  const files = {};
  for (const path of data.want) files[path] = await (await held(path))?.arrayBuffer();
  port.postMessage(files, Object.values(files).filter(Boolean));
}
