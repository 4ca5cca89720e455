import { defineConfig } from "vite";

export default defineConfig({
  // "npm run dev" serves the page, and hands everything live to "go run ./examples/sdk".
  server: { proxy: { "/realtime": { target: process.env.SERVER ?? "http://127.0.0.1:8080", ws: true } } },
});
