// A browser phone: sip.js in headless Chromium. Commands come as lines of JSON on the standard
// input, {"do": NAME, …}; what happens goes out as lines of JSON, {"event": NAME, …}.
//
//   node phone.mjs https://127.0.0.1:8443     the page pretends to come from that server
import readline from "node:readline";
import { existsSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";
import { chromium } from "playwright-core";

const server = process.argv[2];
const tell = event => process.stdout.write(JSON.stringify(event) + "\n");

const bundle = await build({
  entryPoints: [fileURLToPath(new URL("page.js", import.meta.url))],
  bundle: true,
  format: "iife",
  write: false,
  logLevel: "error",
});

const found = ["/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/bin/google-chrome"];
const browser = await chromium.launch({
  executablePath: process.env.CHROMIUM ?? found.find(path => existsSync(path)),
  headless: true,
  args: [
    "--no-sandbox",
    "--disable-gpu",
    "--use-fake-device-for-media-stream",
    "--use-fake-ui-for-media-stream",
    "--autoplay-policy=no-user-gesture-required",
    "--ignore-certificate-errors",
    "--allow-loopback-in-peer-connection",
    "--disable-features=WebRtcHideLocalIpsWithMdns",
  ],
});
const context = await browser.newContext({ ignoreHTTPSErrors: true });
const page = await context.newPage();
page.on("pageerror", error => tell({ event: "page-error", error: error.message }));
page.on("console", line => tell({ event: "console", text: line.text().slice(0, 2000) }));
await page.exposeFunction("tell", tell);
// Only this page is ours; the WebSocket goes to the real server, with this origin.
await page.route(`${server}/test-phone`, route =>
  route.fulfill({ contentType: "text/html", body: "<!doctype html><title>phone</title>" }));
await page.goto(`${server}/test-phone`);
await page.addScriptTag({ content: bundle.outputFiles[0].text });
tell({ event: "ready", version: browser.version() });

for await (const line of readline.createInterface({ input: process.stdin })) {
  const { do: name, ...options } = JSON.parse(line);
  if (name === "quit") break;
  try {
    const result = await page.evaluate(([n, o]) => window.phone[n](o), [name, options]);
    tell({ event: "did", what: name, result });
  } catch (error) {
    tell({ event: "failed", what: name, error: String(error).slice(0, 2000) });
  }
}
await browser.close();
