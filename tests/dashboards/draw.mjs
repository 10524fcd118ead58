// Renders a dashboard in Chromium with data of a running Prometheus and takes a screenshot:
//
//     node draw.mjs PROMETHEUS DASHBOARD PICTURE [NAME=VALUE …]
//
// Values are variables of the dashboard, `scrape` (the scrape interval in seconds) and `from` (the start of the time range).
// Prints a line per panel, and exits with 1 if a panel failed, is empty or is not drawn, or if the page sent a request to
// another host.
import http from 'node:http';
import { createReadStream, existsSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { chromium } from 'playwright-core';

const [prometheus, file, picture, ...values] = process.argv.slice(2);
const here = path.dirname(fileURLToPath(import.meta.url));
const page = path.resolve(here, '../../target/dashboards/page');
const types = { '.html': 'text/html', '.js': 'text/javascript', '.css': 'text/css', '.svg': 'image/svg+xml', '.json': 'application/json' };
const DEADLINE = 60_000;
/** The dashboard is complete when it has not changed for this many milliseconds. */
const STILL = 500;

/** Serves the page and the dashboard, and forwards queries to Prometheus, on one address. */
function serve(request, response) {
  const { pathname, search } = new URL(request.url, 'http://page');
  if (pathname.startsWith('/prometheus/')) {
    const { method, headers } = request;
    const target = `${prometheus}${pathname.slice('/prometheus'.length)}${search}`;
    const asked = http.request(target, { method, headers: { 'content-type': headers['content-type'] ?? '' } }, (answer) => {
      response.writeHead(answer.statusCode, { 'content-type': answer.headers['content-type'] });
      answer.pipe(response);
    });
    asked.on('error', (error) => response.writeHead(502).end(JSON.stringify({ status: 'error', error: error.message })));
    request.pipe(asked);
    return;
  }
  const wanted = pathname === '/dashboard.json' ? file : path.join(page, pathname === '/' ? 'index.html' : pathname);
  if (!existsSync(wanted)) {
    response.writeHead(404).end();
    return;
  }
  response.writeHead(200, { 'content-type': types[path.extname(wanted)] ?? 'application/octet-stream' });
  createReadStream(wanted).pipe(response);
}

/** The error of a panel, or an empty string if it is drawn. */
async function fault(shown, panel) {
  if (panel.error) {
    return panel.error;
  }
  if (panel.rows === 0) {
    return 'no data';
  }
  if (panel.isEmpty) {
    return 'no line';
  }
  const place = shown.locator(`[data-viz-panel-key="${panel.key}"]`);
  const isDrawn = (await place.count()) > 0 && (await place.locator('canvas, [role=grid], svg, span').count()) > 0;
  const saysNothing = isDrawn && (await place.locator('[data-nothing]').count()) > 0;
  const isBlank = ['timeseries', 'heatmap'].includes(panel.pluginId) && !(await place.locator('canvas').first().evaluate(isInked));
  return isDrawn && !saysNothing && !isBlank ? '' : 'nothing is drawn';
}

/** Whether a canvas has coloured pixels, not only grey axes and grids. Runs in the page. */
function isInked(canvas) {
  const { data } = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height);
  let inked = 0;
  for (let at = 0; at < data.length && inked < 20; at += 4) {
    const [red, green, blue, opaque] = data.subarray(at, at + 4);
    inked += opaque > 100 && Math.max(red, green, blue) - Math.min(red, green, blue) > 60 ? 1 : 0;
  }
  return inked >= 20;
}

/** Whether every panel has its data, and no canvas has changed for `time` milliseconds. Runs in the page. */
function isStill(time) {
  const panels = window.drawn?.panels() ?? [];
  if (panels.length === 0 || !panels.every(({ state }) => state === 'Done' || state === 'Error')) {
    return false;
  }
  const looks = [...document.querySelectorAll('canvas')].map((canvas) => canvas.toDataURL()).join();
  if (looks !== window.looked) {
    Object.assign(window, { looked: looks, lookedFrom: performance.now() });
  }
  return performance.now() - window.lookedFrom > time;
}

const faults = [];
const server = http.createServer(serve);
await new Promise((listening) => server.listen(0, '127.0.0.1', listening));
const address = `http://127.0.0.1:${server.address().port}`;
const arguments_ = ['--no-sandbox', '--disable-gpu', '--no-first-run', '--disable-background-networking', '--disable-sync'];
const browser = await chromium.launch({ executablePath: '/usr/bin/chromium', args: arguments_ });
try {
  const shown = await browser.newPage({ viewport: { width: 1600, height: 900 } });
  shown.on('console', (line) => line.type() === 'error' && faults.push(`error in the console of the page: ${line.text()} ${line.location().url}`));
  shown.on('pageerror', (error) => faults.push(`uncaught error in the page: ${error.stack}`));
  shown.on('request', (request) => request.url().startsWith('http') && !request.url().startsWith(address) && faults.push(`request to another host: ${request.url()}`));
  const query = new URLSearchParams([['dashboard', '/dashboard.json'], ...values.map((value) => value.split(/=(.*)/s).slice(0, 2))]);
  await shown.goto(`${address}/?${query}`);
  const still = () =>
    shown.waitForFunction(isStill, STILL, { timeout: DEADLINE, polling: 100 }).catch(() => faults.push(`not every panel was drawn within ${DEADLINE / 1000} s`));
  await still();
  // Enlarge the viewport to the whole dashboard.
  const height = await shown.evaluate(() => document.documentElement.scrollHeight);
  await shown.setViewportSize({ width: 1600, height });
  await shown.evaluate(() => new Promise((drawn) => requestAnimationFrame(() => requestAnimationFrame(drawn))));
  await still();
  const { cannot, panels } = await shown.evaluate(() => ({ cannot: window.drawn?.cannot ?? [], panels: window.drawn?.panels() ?? [] }));
  faults.push(...cannot.map((what) => `not supported by the page: ${what}`));
  for (const panel of panels) {
    const why = await fault(shown, panel);
    console.log(`${why ? 'FAILED' : 'ok    '} ${String(panel.rows).padStart(6)} rows  ${panel.title}${why && `: ${why}`}`);
    if (why) {
      faults.push(`${panel.title}: ${why}`);
    }
  }
  await shown.screenshot({ path: picture });
} finally {
  await browser.close();
  server.close();
  server.closeAllConnections();
}
for (const one of faults) {
  console.error(one);
}
process.exitCode = faults.length > 0 ? 1 : 0;
