// Bundles page/ and Grafana's packages into target/dashboards/page, with all fonts and icons, so that the page needs no other
// host.
import { build } from 'esbuild';
import { cpSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';

const here = path.dirname(fileURLToPath(import.meta.url));
const page = path.resolve(here, '../../target/dashboards/page');
const packages = path.join(here, 'node_modules');

await build({
  entryPoints: [path.join(here, 'page/main.tsx')],
  outfile: path.join(page, 'main.js'),
  bundle: true,
  minify: true,
  format: 'esm',
  target: 'es2022',
  jsx: 'automatic',
  define: { 'process.env.NODE_ENV': '"production"', global: 'window' },
  loader: { '.svg': 'dataurl', '.woff2': 'dataurl', '.ttf': 'dataurl', '.png': 'dataurl' },
  // This package only re-exports what newer versions of the router have.
  alias: { 'react-router-dom-v5-compat': 'react-router-dom' },
  logLevel: 'error',
});
const icons = 'public/build/img/icons';
cpSync(path.join(packages, '@grafana/ui/dist/public/img/icons'), path.join(page, icons), { recursive: true });
// This icon is only in Grafana's application, not in its packages. It is the mirror image of another one.
const unicons = path.join(page, icons, 'unicons');
const twin = readFileSync(path.join(unicons, 'angle-double-right.svg'), 'utf8');
writeFileSync(path.join(unicons, 'angle-double-left.svg'), twin.replaceAll('<path ', '<path transform="matrix(-1 0 0 1 24 0)" '));
// Font files named by Grafana's styles, and the packages that contain them.
const fonts = {
  'inter/Inter-Regular': 'inter/files/inter-latin-400-normal',
  'inter/Inter-Medium': 'inter/files/inter-latin-500-normal',
  'roboto/L0xTDF4xlVMF-BfR8bXMIhJHg45mwgGEFl0_3vrtSM1J-gEPT5Ese6hmHSh0mQ': 'roboto-mono/files/roboto-mono-latin-400-normal',
};
for (const [name, of] of Object.entries(fonts)) {
  const to = path.join(page, 'public/fonts', `${name}.woff2`);
  mkdirSync(path.dirname(to), { recursive: true });
  cpSync(path.join(packages, '@fontsource', `${of}.woff2`), to);
}
const style = '<link rel="icon" href="data:,"><link rel="stylesheet" href="/main.css">';
const body = '<body style="margin:0"><div id="root"></div><script type="module" src="/main.js"></script></body>';
writeFileSync(path.join(page, 'index.html'), `<!doctype html><meta charset="utf-8">${style}${body}`);
