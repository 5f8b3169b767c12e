// A browser phone: sip.js in headless Chromium. Commands come as lines of JSON on the standard
// input, {"do": NAME, …}; what happens goes out as lines of JSON, {"event": NAME, …}.
//
//   node phone.mjs https://127.0.0.1:8443     the server whose page the phone runs in
import readline from "node:readline";
import { existsSync } from "node:fs";
import { networkInterfaces } from "node:os";
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

// Where there is another address, loopback candidates confuse phones: baresip starts DTLS with the
// first pair that works, which need not be the one that Chromium nominates.
const elsewhere = Object.values(networkInterfaces()).flat().some(a => !a.internal && a.family === "IPv4");

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
    ...(elsewhere ? [] : ["--allow-loopback-in-peer-connection"]),
    "--disable-features=WebRtcHideLocalIpsWithMdns",
  ],
});
// The phone runs in the server's own start page, so the origin is the server's; its policy against
// scripts is set aside for ours.
const context = await browser.newContext({ ignoreHTTPSErrors: true, bypassCSP: true });
const page = await context.newPage();
page.on("pageerror", error => tell({ event: "page-error", error: error.message }));
page.on("console", line => tell({ event: "console", text: line.text().slice(0, 2000) }));
await page.exposeFunction("tell", tell);
await page.goto(`${server}/`);
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
process.exit(0);
