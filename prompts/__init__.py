"""What the project says to models, as data files.

- texts/        one Markdown file per text, with strict `{{variables}}`: templates.render
- constraints/  one TOML file per vocabulary, category -> positive phrases: lexicon.load_lexicon
- wordlists/    one TOML file per language, words by which prompts are judged: words.load_words
- examples/     invented findings that show a language model what is asked of it: examples.load_examples
"""

from prompts.lexicon import Constraint, Lexicon, load_lexicon
from prompts.templates import digest, names, render

__all__ = ["Constraint", "Lexicon", "digest", "load_lexicon", "names", "render"]
