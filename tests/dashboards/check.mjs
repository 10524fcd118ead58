// Type-checks charts/canopy/files/dashboards/*.json against dashboard.ts with the TypeScript compiler. Prints each error with
// its line in the JSON, and exits with 1 if there is one.
import { spawnSync } from 'node:child_process';
import { mkdirSync, readFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';

const here = path.dirname(fileURLToPath(import.meta.url));
const root = path.resolve(here, '../..');
const dashboards = path.join(root, 'charts/canopy/files/dashboards');
const made = path.join(root, 'target/dashboards/types');

rmSync(made, { recursive: true, force: true });
mkdirSync(made, { recursive: true });
// The compiler reports unknown keys for object literals only, so each JSON becomes a literal in a program. The declaration is
// put before it on the same line, so line numbers stay the same.
const type = path.relative(made, path.join(here, 'dashboard.ts'));
const files = readdirSync(dashboards).filter((file) => file.endsWith('.json'));
const programs = files.map((file) => {
  const program = path.join(made, file.replace(/json$/, 'ts'));
  const json = readFileSync(path.join(dashboards, file), 'utf8');
  writeFileSync(program, `export const dashboard: import('${type}').Dashboard = ${json}`);
  return program;
});

const compiler = path.join(here, 'node_modules/typescript/bin/tsc');
const how = ['--noEmit', '--strict', '--skipLibCheck', '--pretty', 'false'];
const language = ['--target', 'es2022', '--module', 'esnext', '--moduleResolution', 'bundler'];
const options = [...how, ...language, '--allowImportingTsExtensions'];
const compiled = spawnSync(process.execPath, [compiler, ...options, ...programs], { cwd: made, encoding: 'utf8' });
process.stderr.write(compiled.stderr);
for (const line of compiled.stdout.split('\n').filter(Boolean)) {
  const told = line.replace(/^(\w+)\.ts\((\d+),\d+\)/, 'charts/canopy/files/dashboards/$1.json:$2');
  console.error(told);
}
console.log(`${files.length} dashboards`);
process.exitCode = compiled.status === 0 && files.length > 0 ? 0 : 1;
