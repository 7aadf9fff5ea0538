/** With a capital letter first, unless the text begins with a name such as `timestamp.json`, and an end. */
export function sentence(text: string): string {
  const first = /^[a-z’'-]+(?:[\s,:;]|$)/.test(text) ? text.charAt(0).toUpperCase() + text.slice(1) : text;
  return /[.!?]$/.test(first) ? first : `${first}.`;
}
