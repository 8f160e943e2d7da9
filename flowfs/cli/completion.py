"""``flowfs completion``, and the answers to the shells that it was printed for.

click finds out what is being typed (:mod:`click.shell_completion`); here is what bash, zsh and
fish are told, so that whatever a name holds is one word, and none of it is run.
"""

from __future__ import annotations

import os
import re
import threading
from typing import NamedTuple

import click
from click.shell_completion import CompletionItem, ShellComplete, add_completion_class

from flowfs.cli.completing import patience
from flowfs.errors import InvalidArguments, failure, printable

__all__ = ["completion"]

_BASH = """\
_flowfs() {
    local kind word
    COMPREPLY=()
    while IFS=$'\\t' read -r kind word; do
        case $kind in
            open) compopt -o nospace; COMPREPLY+=("$word") ;;
            word) COMPREPLY+=("$word") ;;
            file) compopt -o default -o filenames
                  while IFS= read -r word; do COMPREPLY+=("$word"); done \\
                      < <(compgen -f -- "${COMP_WORDS[COMP_CWORD]}") ;;
            dir) compopt -o dirnames ;;
        esac
    done < <(_FLOWFS_COMPLETE=bash_complete COMP_LINE="${COMP_LINE:0:COMP_POINT}" \\
        COMP_WORDBREAKS="$COMP_WORDBREAKS" flowfs 2> /dev/null)
}
complete -o nosort -F _flowfs flowfs
"""

_ZSH = """\
#compdef flowfs
_flowfs() {
    local kind word told answer
    local -a open openly closed closedly
    answer="$(_FLOWFS_COMPLETE=zsh_complete COMP_WORDS="${(F)${(@Q)words[1,CURRENT]}}" \\
        flowfs 2> /dev/null)"
    while IFS=$'\\t' read -r kind word told; do
        case $kind in
            open) open+=("$word"); openly+=("$word${told:+  -- $told}") ;;
            word) closed+=("$word"); closedly+=("$word${told:+  -- $told}") ;;
            file) _files ;;
            dir) _files -/ ;;
        esac
    done <<< "$answer"
    (( $#open )) && compadd -U -V places -S '' -d openly -- "${open[@]}"
    (( $#closed )) && compadd -U -V places -d closedly -- "${closed[@]}"
    return 0
}
if [[ $zsh_eval_context[-1] == loadautofunc ]]; then
    _flowfs "$@"
else
    compdef _flowfs flowfs
fi
"""

_FISH = """\
function __flowfs_complete
    set -lx _FLOWFS_COMPLETE fish_complete
    set -lx COMP_LINE (commandline -cp)
    for row in (flowfs 2> /dev/null)
        set -l parts (string split \\t -- $row)
        switch $parts[1]
            case file dir
                __fish_complete_path (commandline -ct)
            case open word
                printf '%s\\t%s\\n' $parts[2] $parts[3]
        end
    end
end
complete --command flowfs --no-files --keep-order --arguments '(__flowfs_complete)'
"""

_SCRIPTS = {"bash": _BASH, "zsh": _ZSH, "fish": _FISH}


@click.command(short_help="Print what completes words in a shell.")
@click.argument("shell", type=click.Choice(sorted(_SCRIPTS)), required=False)
def completion(shell: str | None) -> None:
    """Print what has SHELL complete commands, options, groups, runs and files as they are typed.

    \b
      eval "$(flowfs completion bash)"                           in ~/.bashrc
      eval "$(flowfs completion zsh)"                            in ~/.zshrc, after compinit
      flowfs completion fish > ~/.config/fish/completions/flowfs.fish

    Without SHELL, for the one that $SHELL names. What the service has is asked for as it is
    needed, and is good for ten seconds. Where it does not answer within two, or as many as
    FLOWFS_COMPLETION_TIMEOUT says, nothing is completed, and nothing is said.
    """
    if shell is None:
        shell = os.path.basename(os.environ.get("SHELL", ""))
        if shell not in _SCRIPTS:
            raise failure(InvalidArguments, "say for which shell: flowfs completion bash|zsh|fish")
    click.echo(_SCRIPTS[shell], nl=False)


class Typed(NamedTuple):
    """A line as far as it has been typed.

    Attributes
    ----------
    words : list of str
        Its words, quotes taken off; the last one is being typed.
    quote : str
        The quote that the last one is in; empty for none.
    raw : str
        The last one as it was typed.
    """

    words: list[str]
    quote: str
    raw: str

    @classmethod
    def read(cls, line: str) -> Typed:
        """Read a line as a shell does; nothing in it is run."""
        words, word, raw, quote, within = [], "", "", "", False
        letters = iter(line)
        for letter in letters:
            if not quote and letter.isspace():
                if within:
                    words.append(word)
                word, raw, within = "", "", False
                continue
            raw += letter
            within = True
            if letter == quote:
                quote = ""
            elif not quote and letter in "'\"":
                quote = letter
            elif letter == "\\" and quote != "'":
                following = next(letters, "")
                raw += following
                kept = quote == '"' and following not in '"\\$`'
                word += f"\\{following}" if kept else following
            else:
                word += letter
        return cls([*words, word], quote, raw)


class _Complete(ShellComplete):
    """What all three shells have in common."""

    def complete(self) -> str:
        """Return the answer; an empty one if anything is wrong, or takes too long."""
        timer = threading.Timer(patience(), os._exit, [0])
        timer.daemon = True
        timer.start()
        try:
            words = self.words()
            items = self.get_completions(words[1:-1], words[-1])
            rows = [self.row(item) for item in items]
        except Exception:
            return ""
        finally:
            timer.cancel()
        return "\n".join(row for row in rows if row is not None)

    def words(self) -> list[str]:
        """Return the words of the line, the last one being typed."""
        return Typed.read(os.environ.get("COMP_LINE", "")).words

    def row(self, item: CompletionItem) -> str | None:
        """Return a line of the answer; None for what cannot be said."""
        if item.type in ("file", "dir"):
            return str(item.type)
        word = self.quoted(str(item.value))
        if not str(item.value).isprintable():
            return None
        told = printable(" ".join(str(item.help or "").split()))
        kind = "open" if word.endswith(("/", "=")) else "word"
        return f"{kind}\t{word}\t{told}".rstrip("\t")

    def quoted(self, word: str) -> str:
        """Return a word as it is to stand on the line; zsh and fish quote it themselves."""
        return word


_UNSAFE = re.compile(r"([^\w@%+=:,./-])", re.ASCII)


class _Bash(_Complete):
    name = "bash"
    source_template = _BASH

    def words(self) -> list[str]:
        self._typed = Typed.read(os.environ.get("COMP_LINE", ""))
        return self._typed.words

    def row(self, item: CompletionItem) -> str | None:
        row = super().row(item)
        return row if row is None else "\t".join(row.split("\t")[:2])

    def quoted(self, word: str) -> str:
        """Return a word that bash puts in the place of what it takes for the last one."""
        if self._typed.quote == "'":
            return word.replace("'", "'\\''")
        if self._typed.quote == '"':
            return re.sub(r'([$`"\\])', r"\\\1", word)
        quoted = _UNSAFE.sub(r"\\\1", word)
        # To bash a word begins behind the last of these that is not quoted.
        breaks = set(os.environ.get("COMP_WORDBREAKS", "")) & set("=:")
        at = max((self._typed.raw.rfind(one) for one in breaks), default=-1)
        begun = self._typed.raw[: at + 1]
        return quoted.removeprefix(begun)


class _Zsh(_Complete):
    name = "zsh"
    source_template = _ZSH

    def words(self) -> list[str]:
        words = os.environ.get("COMP_WORDS", "").split("\n")
        words[-1] = Typed.read(words[-1]).words[-1] if words[-1][:1] in ("'", '"') else words[-1]
        return words


class _Fish(_Complete):
    name = "fish"
    source_template = _FISH


for _shell in (_Bash, _Zsh, _Fish):
    add_completion_class(_shell)
