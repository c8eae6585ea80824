import type { GeneratedImage, GeneratedText } from '../../lib/index.ts'

/** One prompt and what was drawn for it, the best first. */
export interface Drawing {
  prompt: string
  isNew: boolean
  images: readonly GeneratedImage[]
  seconds: number
}

/** One picture and what was said of it, the best first. */
export interface Description {
  name: string
  /** The bytes of a PNG file. */
  png: Uint8Array
  texts: readonly GeneratedText[]
  seconds: number
}

/** What the page shows. */
export interface PageContent {
  drawings: readonly Drawing[]
  descriptions: readonly Description[]
  /** Name and value of each fact. */
  facts: readonly (readonly [string, string])[]
}

const style = `
:root { color-scheme: light dark; --ink: #1d2129; --dim: #68707d; --paper: #f6f5f1; --card: #fff; --line: #e3e1d9; --mark: #b4472e; --good: #2c7a4b }
@media (prefers-color-scheme: dark) { :root { --ink: #e9e7e1; --dim: #9aa1ad; --paper: #17181b; --card: #212328; --line: #33363d; --mark: #f08a6c; --good: #6fcf97 } }
* { box-sizing: border-box }
body { margin: 0; padding: 2.5rem clamp(1rem, 4vw, 4rem) 4rem; background: var(--paper); color: var(--ink);
  font: 16px/1.55 system-ui, "PingFang SC", "Hiragino Sans GB", "Microsoft YaHei", "Noto Sans CJK SC", sans-serif }
header, section, footer { max-width: 76rem; margin: 0 auto }
h1 { font-size: 2rem; font-weight: 650; margin: 0 } h2 { font-size: 1.25rem; font-weight: 600; margin: 3rem 0 .25rem }
p { margin: .25rem 0; color: var(--dim) }
.grid { display: grid; gap: 1rem; margin-top: 1rem; grid-template-columns: repeat(auto-fill, minmax(17rem, 1fr)) }
article { background: var(--card); border: 1px solid var(--line); border-radius: 12px; padding: 1rem }
h3 { margin: 0 0 .6rem; font-size: 1.1rem; font-weight: 600; display: flex; justify-content: space-between; align-items: baseline; gap: .5rem }
.new { color: var(--mark); font-size: .75rem; font-weight: 500; white-space: nowrap }
img { display: block; background: #fff; border-radius: 6px; image-rendering: pixelated }
.best { width: 100%; aspect-ratio: 1; border: 1px solid var(--line) }
.rest { display: grid; grid-template-columns: repeat(5, 1fr); gap: .4rem; margin-top: .5rem }
.rest img { width: 100%; aspect-ratio: 1 }
figure { margin: 0 } figcaption { font-size: .72rem; color: var(--dim); font-variant-numeric: tabular-nums; text-align: center; line-height: 1.3; margin-top: .2rem }
.said { display: flex; gap: 1rem } .said img { width: 7rem; height: 7rem; flex: none; border: 1px solid var(--line) }
ol { margin: .3rem 0 0; padding-left: 1.2rem } li small { color: var(--dim); font-variant-numeric: tabular-nums } .hit { color: var(--good); font-weight: 600 }
.name { color: var(--dim); font-size: .85rem }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .3rem 1.5rem; margin: 1rem 0 0 } dt { color: var(--dim) } dd { margin: 0; overflow-wrap: anywhere }
footer { margin-top: 3rem; color: var(--dim); font-size: .85rem }
`

/** A page that needs nothing beside itself: pictures are in it. */
export async function pageOf({ drawings, descriptions, facts }: PageContent): Promise<string> {
  const drawn = await Promise.all(drawings.map(drawingCard))
  const said = descriptions.map(descriptionCard)
  const rows = facts.map(([name, value]) => `<dt>${escape(name)}</dt><dd>${escape(value)}</dd>`)
  return `<!doctype html>
<html lang="zh-CN">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>ERNIE-ViLG：画与说</title>
<style>${style}</style>
<header>
<h1>画与说</h1>
<p>一个双向模型：把文字画成图片，又用文字描述图片。 One model, both directions.</p>
</header>
<section>
<h2>由文字作画</h2>
<p>每条文字画出若干候选，大图是模型自己评分最高的一幅（评分：模型看着图片说出这条文字的对数似然）。</p>
<div class="grid">
${drawn.join('\n')}
</div>
</section>
<section>
<h2>看图说话</h2>
<p>这些图片不是模型画的，训练中也没有出现过。</p>
<div class="grid">
${said.join('\n')}
</div>
</section>
<section>
<h2>模型与用时</h2>
<dl>
${rows.join('\n')}
</dl>
</section>
<footer>ernie-vilg</footer>
</html>
`
}

async function drawingCard({ prompt, isNew, images, seconds }: Drawing): Promise<string> {
  const [best, ...rest] = await Promise.all(images.map(candidate))
  const mark = isNew ? '<span class="new">训练中未见的组合</span>' : ''
  return `<article>
<h3>${escape(prompt)}${mark}</h3>
<figure>${best!.picture('best')}<figcaption>${best!.text} · ${seconds.toFixed(1)} s</figcaption></figure>
<div class="rest">${rest.map(({ picture, text }) => `<figure>${picture('')}<figcaption>${text.replace(' · ', '<br>')}</figcaption></figure>`).join('')}</div>
</article>`
}

async function candidate(image: GeneratedImage) {
  const source = dataUri(await image.png())
  const about = `seed ${image.seed}, candidate ${image.candidate}`
  return {
    picture: (kind: string) => `<img class="${kind}" src="${source}" alt="${about}" title="${about}">`,
    text: `评分 ${image.score!.toFixed(1)} · log P ${image.logProbability.toFixed(0)}`,
  }
}

function descriptionCard({ name, png, texts, seconds }: Description): string {
  const lines = texts.map(({ text, logProbability }) => {
    const shown = text === name ? `<span class="hit">${escape(text)} ✓</span>` : escape(text)
    return `<li>${shown} <small>${logProbability.toFixed(2)}</small></li>`
  })
  return `<article class="said">
<img src="${dataUri(png)}" alt="${escape(name)}">
<div><span class="name">名称：${escape(name)} · ${seconds.toFixed(2)} s</span><ol>${lines.join('')}</ol></div>
</article>`
}

function dataUri(png: Uint8Array): string {
  return `data:image/png;base64,${Buffer.from(png).toString('base64')}`
}

function escape(text: string): string {
  return text
    .replaceAll('&', '&amp;')
    .replaceAll('<', '&lt;')
    .replaceAll('>', '&gt;')
    .replaceAll('"', '&quot;')
}
