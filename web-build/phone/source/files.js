// The page's way to its files, which the service worker keeps on the device and hands out.

import { Refused } from "./picture.js";

// "all": for a day the browser takes sw.js from its cache where it would ask for a newer one,
// as it does when a worker begins, so that using the page asks the network for nothing.

/** Waits until every file is on this device; rejects where the browser cannot keep them. */
export async function installed(onProgress) {
  if (!navigator.serviceWorker || !globalThis.OffscreenCanvas) throw new Refused("unable");
  navigator.serviceWorker.onmessage = ({ data }) => data.loaded && onProgress(data);
  const registration = await navigator.serviceWorker.register("sw.js", { updateViaCache: "all" });
  if (navigator.serviceWorker.controller) return;
  await new Promise((resolve, reject) => {
    navigator.serviceWorker.oncontrollerchange = resolve;
    const coming = registration.installing;
    if (coming)
      coming.onstatechange = () => coming.state === "redundant" && reject(new Refused("unable"));
  });
}

function asked(message) {
  return new Promise((resolve) => {
    const { port1, port2 } = new MessageChannel();
    port1.onmessage = ({ data }) => resolve(data);
    navigator.serviceWorker.controller.postMessage(message, [port2]);
  });
}

/** Returns files of the page by name; refuses where one is not there. */
export async function handed(names) {
  const files = await asked({ want: names });
  if (names.some((name) => !files[name])) throw new Refused("failed");
  return files;
}

export const parsed = (file) => JSON.parse(new TextDecoder().decode(file));

/** Takes every file of this page off the device. */
export const forget = () => asked({ forget: true });
