/** Languages of the page that raters see. */
export const STUDY_LANGUAGES = Object.freeze(['en', 'zh'] as const)

/** One of {@link STUDY_LANGUAGES}. */
export type StudyLanguage = (typeof STUDY_LANGUAGES)[number]

/** One text in every language of the page. */
export type Localized = Readonly<Record<StudyLanguage, string>>

interface CriterionText {
  /** What it is called in results and tables. */
  readonly id: string
  readonly label: Localized
  /** What the rater is asked. */
  readonly question: Localized
}

/** A whole number from `min` to `max`, higher being better. */
export interface RatingCriterion extends CriterionText {
  readonly kind: 'rating'
  readonly min: number
  readonly max: number
  /** What the two ends of the scale mean. */
  readonly low: Localized
  readonly high: Localized
}

/** Whether a person or a machine made it: `human` or `machine`. */
export interface VerdictCriterion extends CriterionText {
  readonly kind: 'verdict'
}

/** Which of two is better. */
export interface ChoiceCriterion extends CriterionText {
  readonly kind: 'choice'
}

/** What raters say of a unit. */
export type Criterion = RatingCriterion | VerdictCriterion | ChoiceCriterion

/** The answers to a {@link VerdictCriterion}. */
export const VERDICTS = Object.freeze(['human', 'machine'] as const)

/** How a study asks people. */
export interface Protocol {
  /** What raters see beside what they judge: fields of a {@link StudyItem}. */
  readonly given: readonly ('text' | 'image' | 'question')[]
  /** What systems answer with. */
  readonly judged: 'image' | 'text'
  /** Whether raters see one response at a time, or two of one item side by side. */
  readonly shown: 'one' | 'pair'
  readonly criteria: readonly Criterion[]
  readonly title: Localized
  /** Where it comes from, and with how many items and raters. */
  readonly source: string
}

function rating(
  id: string,
  [min, max]: readonly [number, number],
  text: { label: Localized; question: Localized; low: Localized; high: Localized },
): RatingCriterion {
  return { id, kind: 'rating', min, max, ...text }
}

/**
 * The protocols of the papers.
 *
 * - `text-to-image`: pictures drawn from texts, 1 to 5 on clarity, texture and relevance. ERNIE-ViLG (arXiv 2112.15283), 4.2 and table 2:
 *   500 texts, three raters.
 * - `caption`: descriptions of pictures, 0 to 2 on fluency, relevance and richness. The same, 4.3 and table 5: 200 pictures.
 * - `vqa`: answers to questions about pictures, 0 to 2 on quality, and the Turing test. The same, 4.4 and table 6: 200 questions, with the
 *   answers of people among the systems, to cancel what is particular to the raters.
 * - `pairwise`: two pictures for one text, in random order: which has the higher fidelity, which fits the text better. Huang et al.
 *   (arXiv 2110.09753), 5.5 and figure 3: 300 texts, ten raters, each other system against the authors' own.
 */
export const PROTOCOLS = deepFreeze({
  'text-to-image': {
    given: ['text'],
    judged: 'image',
    shown: 'one',
    criteria: [
      rating('clarity', [1, 5], {
        label: { en: 'Clarity', zh: '清晰度' },
        question: {
          en: 'Is the picture sharp and clear?',
          zh: '图片是否清晰？',
        },
        low: { en: 'blurred', zh: '模糊' },
        high: { en: 'clear', zh: '清晰' },
      }),
      rating('texture', [1, 5], {
        label: { en: 'Texture', zh: '纹理' },
        question: {
          en: 'Are surfaces and details of good quality, without distortions?',
          zh: '图片的纹理和细节是否自然、没有扭曲？',
        },
        low: { en: 'poor', zh: '差' },
        high: { en: 'good', zh: '好' },
      }),
      rating('relevance', [1, 5], {
        label: { en: 'Relevance', zh: '相关性' },
        question: { en: 'Does the picture show what the text says?', zh: '图片内容与文字是否相符？' },
        low: { en: 'unrelated', zh: '无关' },
        high: { en: 'all of it', zh: '完全相符' },
      }),
    ],
    title: { en: 'Pictures drawn from text', zh: '由文字生成的图片' },
    source: 'ERNIE-ViLG (arXiv 2112.15283), section 4.2 and table 2: 500 texts, 3 raters',
  },
  caption: {
    given: ['image'],
    judged: 'text',
    shown: 'one',
    criteria: [
      rating('fluency', [0, 2], {
        label: { en: 'Fluency', zh: '流畅性' },
        question: { en: 'Is the description fluent?', zh: '描述是否通顺流畅？' },
        low: { en: 'not fluent', zh: '不通顺' },
        high: { en: 'fluent', zh: '流畅' },
      }),
      rating('relevance', [0, 2], {
        label: { en: 'Relevance', zh: '相关性' },
        question: { en: 'Is the description about this picture?', zh: '描述与图片是否相关？' },
        low: { en: 'unrelated', zh: '无关' },
        high: { en: 'fits', zh: '相符' },
      }),
      rating('richness', [0, 2], {
        label: { en: 'Richness', zh: '丰富性' },
        question: {
          en: 'Does the description cover the whole content of the picture?',
          zh: '描述是否充分说明了图片的全部内容？',
        },
        low: { en: 'little of it', zh: '很少' },
        high: { en: 'all of it', zh: '全部' },
      }),
    ],
    title: { en: 'Descriptions of pictures', zh: '图片的描述' },
    source: 'ERNIE-ViLG (arXiv 2112.15283), section 4.3 and table 5: 200 pictures',
  },
  vqa: {
    given: ['image', 'question'],
    judged: 'text',
    shown: 'one',
    criteria: [
      {
        id: 'turing',
        kind: 'verdict',
        label: { en: 'Human or machine?', zh: '人还是机器？' },
        question: { en: 'Who gave this answer?', zh: '你认为这个回答出自人还是机器？' },
      },
      rating('quality', [0, 2], {
        label: { en: 'Answer quality', zh: '回答质量' },
        question: { en: 'Does the answer answer the question?', zh: '回答的质量如何？' },
        low: { en: 'wrong', zh: '错误' },
        high: { en: 'right', zh: '正确' },
      }),
    ],
    title: { en: 'Answers to questions about pictures', zh: '看图回答问题' },
    source: 'ERNIE-ViLG (arXiv 2112.15283), section 4.4 and table 6: 200 questions',
  },
  pairwise: {
    given: ['text'],
    judged: 'image',
    shown: 'pair',
    criteria: [
      {
        id: 'fidelity',
        kind: 'choice',
        label: { en: 'Fidelity', zh: '逼真度' },
        question: { en: 'Which picture shows higher fidelity?', zh: '哪张图片更逼真？' },
      },
      {
        id: 'semantics',
        kind: 'choice',
        label: { en: 'Meaning', zh: '语义' },
        question: { en: 'Which picture fits the text better?', zh: '哪张图片与文字的意思更相符？' },
      },
    ],
    title: { en: 'Pairs of pictures drawn from text', zh: '由文字生成的成对图片' },
    source: 'Huang et al. (arXiv 2110.09753), section 5.5 and figure 3: 300 texts, 10 raters',
  },
} as const satisfies Record<string, Protocol>)

/** A key of {@link PROTOCOLS}. */
export type ProtocolName = keyof typeof PROTOCOLS

/** The names of {@link PROTOCOLS}. */
export const PROTOCOL_NAMES = Object.freeze(Object.keys(PROTOCOLS) as ProtocolName[])

/**
 * The angles of ERNIE-ViLG's 500 texts for people to judge, and how many texts each has (arXiv 2112.15283, table 8). The 102 of MS-COCO are
 * drawn at random from its validation set, the others written by hand. The texts themselves were not published.
 */
export const PROMPT_ANGLES = deepFreeze([
  { id: 'ms-coco', count: 102, label: { en: 'MS-COCO', zh: 'MS-COCO' } },
  {
    id: 'characters',
    count: 49,
    label: { en: 'anthropomorphic animals and cartoon characters', zh: '拟人动物与卡通形象' },
  },
  { id: 'geography', count: 50, label: { en: 'geography', zh: '地理' } },
  {
    id: 'multi-object',
    count: 68,
    label: { en: 'several objects, attributes and relations', zh: '多物体、属性与关系' },
  },
  { id: 'single-object', count: 56, label: { en: 'one object with attributes', zh: '单物体与属性' } },
  { id: 'counterfactual', count: 54, label: { en: 'counterfactual', zh: '反事实' } },
  { id: 'view', count: 43, label: { en: 'view angles', zh: '不同视角' } },
  { id: 'style', count: 43, label: { en: 'styles', zh: '不同风格' } },
  { id: 'time-and-scene', count: 35, label: { en: 'times and scenes', zh: '不同时间与场景' } },
] as const)

function deepFreeze<const T>(value: T): T {
  if (typeof value === 'object' && value !== null) {
    Object.values(value).forEach(deepFreeze)
    Object.freeze(value)
  }
  return value
}
