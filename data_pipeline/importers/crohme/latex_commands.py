"""LaTeX commands of formulas: symbols, structures, synonyms, and layout that means nothing."""

_LAYOUT = r"""
$ ~ \! \, \: \; \> \/ \left \right \middle \nolimits \quad \qquad \displaystyle \textstyle \scriptstyle
\big \Big \bigg \Bigg \bigl \bigr \Bigl \Bigr \biggl \biggr \Biggl \Biggr
\mathrm \mathit \mathbf \mathop \mbox \text \textrm \textit \rm \it
"""
_SYMBOLS = r"""
\alpha \beta \gamma \delta \epsilon \varepsilon \zeta \eta \theta \vartheta \iota \kappa \lambda \mu \nu \xi \pi \rho
\sigma \tau \upsilon \phi \varphi \chi \psi \omega
\Gamma \Delta \Theta \Lambda \Xi \Pi \Sigma \Upsilon \Phi \Psi \Omega
\sum \prod \int \oint \lim \log \ln \exp \sin \cos \tan \cot \sec \csc \max \min \sup \inf \det \limits
\infty \partial \nabla \forall \exists \in \notin \subset \subseteq \supset \cup \cap \emptyset \prime \hbar \ell
\pm \mp \times \div \cdot \cdots \ldots \vdots \ddots \circ \ast \star
\leq \geq \neq \equiv \approx \sim \simeq \cong \propto \ll \gg \perp \angle
\rightarrow \leftarrow \Rightarrow \Leftarrow \leftrightarrow \Leftrightarrow \mapsto
\langle \rangle \lfloor \rfloor \lceil \rceil \{ \} \% \# \& \_ \backslash
"""

LAYOUT = frozenset({*_LAYOUT.split(), "\\ "})
"""Says how a formula is set, not what it says; a dollar sign only delimits it."""

SYNONYMS: dict[str, tuple[str, ...]] = {
    r"\lt": ("<",),
    r"\gt": (">",),
    r"\le": (r"\leq",),
    r"\ge": (r"\geq",),
    r"\ne": (r"\neq",),
    r"\to": (r"\rightarrow",),
    r"\dots": (r"\ldots",),
    r"\lbrack": ("[",),
    r"\rbrack": ("]",),
    r"\lbrace": (r"\{",),
    r"\rbrace": (r"\}",),
    r"\vert": ("|",),
    r"\lvert": ("|",),
    r"\rvert": ("|",),
    r"\parallel": ("|", "|"),
    r"\|": ("|", "|"),
    r"\Vert": ("|", "|"),
    "'": (r"\prime",),
}
"""Other spellings of a token, among them those that stand for two tokens."""

STRUCTURES = frozenset({r"\frac", r"\sqrt"})
"""Commands with arguments."""

COMMANDS = STRUCTURES | frozenset(_SYMBOLS.split()) | frozenset(c for c in {*LAYOUT, *SYNONYMS} if c[0] == "\\")
"""Every command that can be read."""
