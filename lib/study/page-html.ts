import { createHash } from 'node:crypto'
import { fileURLToPath } from 'node:url'
import { escapeXml } from '../data/svg-text.ts'
import { readText } from '../read-text.ts'
import type { PageStudy } from './page-study.ts'

/** Files of `page/`, each after those it imports from. */
export const PAGE_SCRIPTS = Object.freeze([
  'messages.js',
  'seeded-random.js',
  'session.js',
  'store.js',
  'dom.js',
  'keys.js',
  'start-screen.js',
  'unit-screen.js',
  'finish-screen.js',
  'app.js',
  'main.js',
] as const)

/**
 * The modules of `page/` as one script, since a page opened from a file may not load modules. Their top-level names differ from each other,
 * they export by declarations and import by name, so leaving both words out joins them.
 */
export async function joinScripts(): Promise<string> {
  const sources = await Promise.all(PAGE_SCRIPTS.map(readPageFile))
  return sources
    .map((source) =>
      source.replace(/^import \{[^}]*\} from '\.\/[\w-]+\.js'\n/gm, '').replace(/^export /gm, ''),
    )
    .join('\n')
}

/** Reads a script or style of `page/`, which lie beside this file in the package too. */
function readPageFile(name: string): Promise<string> {
  return readText(fileURLToPath(new URL(`./page/${name}`, import.meta.url)))
}

/**
 * The page of a study, which needs nothing beside itself and can load nothing: its content security policy allows the one script and the
 * one style sheet in it, by their hashes, and pictures in `data:` URIs.
 */
export async function studyPage(study: PageStudy): Promise<string> {
  const [script, style] = await Promise.all([joinScripts(), readPageFile('page.css')])
  const policy = [
    "default-src 'none'",
    `script-src '${integrity(`\n${script}`)}'`,
    `style-src '${integrity(`\n${style}`)}'`,
    'img-src data:',
    "base-uri 'none'",
    "form-action 'none'",
  ].join('; ')
  return `<!doctype html>
<html lang="${study.language === 'zh' ? 'zh-CN' : 'en'}">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="${policy}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="robots" content="noindex">
<title>${escapeXml(study.title)}</title>
<style>
${style}</style>
</head>
<body>
<div id="app"></div>
<noscript>This page needs JavaScript. 此页面需要启用 JavaScript。</noscript>
<script type="application/json" id="study">${scriptJson(study)}</script>
<script type="module">
${script}</script>
</body>
</html>
`
}

/** JSON that a script element can hold: without `<` nothing in it can end the element or begin a comment. */
function scriptJson(value: unknown): string {
  return JSON.stringify(value).replaceAll('<', '\\u003c')
}

function integrity(text: string): string {
  return `sha256-${createHash('sha256').update(text).digest('base64')}`
}
