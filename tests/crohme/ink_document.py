"""InkML documents written for the tests."""

MATH = "http://www.w3.org/1998/Math/MathML"


def inkml(
    latex: str | None = None,
    mathml: str | None = None,
    traces: tuple[str, ...] = ("0 0, 10 5, 20 0",),
    ui: str = "made-up-1",
    head: str = "",
) -> bytes:
    """An InkML file with the given truths; `mathml` is the inside of the `math` element."""
    truth = "" if latex is None else f'<annotation type="truth">{latex}</annotation>'
    math = "" if mathml is None else f'<annotationXML type="truth"><math xmlns="{MATH}">{mathml}</math></annotationXML>'
    ink = "".join(f'<trace id="{number}">{points}</trace>' for number, points in enumerate(traces))
    return (
        f'{head}<ink xmlns="http://www.w3.org/2003/InkML"><annotation type="UI">{ui}</annotation>'
        f"{truth}{math}{ink}"
        '<traceGroup><annotation type="truth">Segmentation</annotation></traceGroup></ink>'
    ).encode()
