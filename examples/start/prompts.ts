/** What `npm start` draws. `isNew` marks combinations that training never saw: their parts it knows. */
export const PROMPTS: readonly { text: string; isNew?: boolean }[] = [
  { text: '红苹果' },
  { text: '西瓜' },
  { text: '草莓' },
  { text: '生日蛋糕' },
  { text: '猫脸' },
  { text: '企鹅' },
  { text: '蝴蝶' },
  { text: '微笑的太阳' },
  { text: '彩虹' },
  { text: '蒸汽火车' },
  { text: '火箭' },
  { text: '帆船' },
  { text: '画一个松树的图案' },
  { text: '拇指向上: 较浅肤色', isNew: true },
  { text: '女医生: 中等-浅肤色', isNew: true },
  { text: '中等肤色的男学生', isNew: true },
]
