import { createRequire } from 'node:module'

// What the tests use of playwright-core. It is no dependency, since few need it: `npm run test:browser` says how to get it.

export interface Page {
  on(event: 'pageerror', listener: (error: Error) => void): void
  on(event: 'console', listener: (message: { type(): string; text(): string }) => void): void
  on(event: 'dialog', listener: (dialog: { message(): string; dismiss(): Promise<void> }) => void): void
  on(event: 'request', listener: (request: { url(): string }) => void): void
  goto(url: string): Promise<unknown>
  close(): Promise<void>
  fill(selector: string, text: string): Promise<void>
  click(selector: string): Promise<void>
  textContent(selector: string): Promise<string | null>
  getAttribute(selector: string, name: string): Promise<string | null>
  isVisible(selector: string): Promise<boolean>
  isChecked(selector: string): Promise<boolean>
  setInputFiles(selector: string, path: string): Promise<void>
  waitForSelector(selector: string): Promise<unknown>
  waitForEvent(event: 'download'): Promise<{ saveAs(path: string): Promise<void> }>
  waitForFunction(script: string): Promise<unknown>
  /** Scripts are texts, since what tests are compiled to calls helpers that pages do not have. */
  evaluate(script: string): Promise<unknown>
  locator(selector: string): { count(): Promise<number>; allTextContents(): Promise<string[]> }
  readonly keyboard: { press(key: string): Promise<void> }
}

export interface BrowserContext {
  newPage(): Promise<Page>
  addInitScript(script: { content: string }): Promise<void>
  close(): Promise<void>
}

export interface Browser {
  newContext(options?: {
    viewport?: { width: number; height: number }
    colorScheme?: 'light' | 'dark'
  }): Promise<BrowserContext>
  close(): Promise<void>
}

/** Starts a Chromium. */
export async function launch(executablePath: string): Promise<Browser> {
  const { chromium } = createRequire(import.meta.url)('playwright-core') as {
    chromium: { launch(options: { executablePath: string; args: string[] }): Promise<Browser> }
  }
  // Browsers in containers run as root, where Chromium's sandbox cannot.
  return chromium.launch({ executablePath, args: ['--no-sandbox'] })
}
