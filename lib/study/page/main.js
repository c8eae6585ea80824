import { App } from './app.js'
import { Store } from './store.js'

const data = document.getElementById('study')
const root = document.getElementById('app')
if (data === null || root === null) throw new Error('the page is not whole')
new App(JSON.parse(data.textContent ?? ''), root, new Store(() => window.localStorage))
