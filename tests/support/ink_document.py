"""InkML documents written for the tests."""

MATH = "http://www.w3.org/1998/Math/MathML"


def inkml(
    latex: str | None = None,
    mathml: str | None = None,
    traces: tuple[str, ...] = ("0 0, 10 5, 20 0",),
    ui: str = "made-up-1",
    head: str = "",
    symbols: dict[str, tuple[int, ...]] | None = None,
) -> bytes:
    """An InkML file with the given truths; `mathml` is the inside of the `math` element.

    `symbols`: which traces draw which element of the MathML, by its xml:id.
    """
    truth = "" if latex is None else f'<annotation type="truth">{latex}</annotation>'
    math = "" if mathml is None else f'<annotationXML type="truth"><math xmlns="{MATH}">{mathml}</math></annotationXML>'
    ink = "".join(f'<trace id="{number}">{points}</trace>' for number, points in enumerate(traces))
    groups = "".join(
        f'<traceGroup>{"".join(f"""<traceView traceDataRef="{reference}"/>""" for reference in references)}'
        f'<annotationXML href="{name}"/></traceGroup>'
        for name, references in (symbols or {}).items()
    )
    return (
        f'{head}<ink xmlns="http://www.w3.org/2003/InkML"><annotation type="UI">{ui}</annotation>'
        f"{truth}{math}{ink}"
        '<traceGroup><annotation type="truth">Segmentation</annotation>'
        f"{groups}</traceGroup></ink>"
    ).encode()
