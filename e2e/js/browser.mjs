// Starts Chromium the way every browser test does.
import { chromium } from 'playwright-core';

const args = [
  '--headless',
  '--no-sandbox',
  '--disable-gpu',
  '--disable-quic',
  '--no-first-run',
  '--disable-background-networking',
  '--disable-component-update',
  '--disable-sync',
];

/** launch starts a browser with a fresh profile, which goes with it. */
export function launch(executablePath) {
  return chromium.launch({ executablePath, args });
}
