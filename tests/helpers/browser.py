"""Pages in headless Chromium, opened as files: a script that is appended to a page tells of it."""

import html
import json
import os
import re
import shutil
import subprocess
from pathlib import Path

CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("chrome")
BEFORE = """
<script>
const SEEN = {errors: [], saved: [], found: {}};
window.addEventListener("error", (event) => SEEN.errors.push(String(event.message)));
document.addEventListener("securitypolicyviolation", (event) => SEEN.errors.push(event.blockedURI));
URL.createObjectURL = (blob) => { SEEN.saved.push(blob); return "#saved"; };
for (const name of ["error", "warn"]) console[name] = (text) => SEEN.errors.push(String(text));
</script>
"""
AFTER = """
<script>
(async () => {
  const found = SEEN.found;
  const all = (selector) => [...document.querySelectorAll(selector)];
  try { await (async () => { %s })(); } catch (error) { SEEN.errors.push(String(error.stack)); }
  SEEN.saved = await Promise.all(SEEN.saved.map((blob) => blob.text()));
  found.title = document.title;
  found.images = all("img").filter((one) => !one.src.startsWith("data:")).length;
  const out = document.createElement("pre");
  out.id = "seen";
  out.textContent = JSON.stringify(SEEN);
  document.body.append(out);
})();
</script>
"""


def browse(tmp_path: Path, script: str, text: str, width: int = 1280) -> dict:
    """Open a page, run a script in it, and return what it has found."""
    file = tmp_path / "page.html"
    text = text.replace("<main", BEFORE + "<main", 1)
    file.write_text(text.replace("</body>", AFTER % script + "</body>"))
    words = [
        str(CHROMIUM), "--headless", "--no-sandbox", "--disable-gpu", "--virtual-time-budget=4000",
        f"--window-size={width},900", f"--user-data-dir={tmp_path / 'profile'}", "--dump-dom",
        f"file://{file}",
    ]  # fmt: skip
    done = subprocess.run(words, capture_output=True, text=True, timeout=120, check=False)
    seen = re.search(r'<pre id="seen">(.*?)</pre>', done.stdout, re.S)
    assert seen, done.stderr[-2000:]
    return json.loads(html.unescape(seen.group(1)))
