"""Overrides of the configuration that make a run small, and its recognizer one of each kind."""

# A network of some ten thousand weights: the tests are about what is around it. One thread: on a machine that does other
# work two wait for each other at every operation.
SMALL = [
    "compute.threads_per_worker=1",
    "model.backbone.small_cnn.width=4",
    "model.encoder.embed_dim=16",
    "model.encoder.mlp_dim=32",
    "model.decoder.embed_dim=16",
    "model.decoder.mlp_dim=32",
    "model.decoder.depth=1",
    "tracking.log_interval=1",
    "tracking.wandb=false",
    "report.examples=6",
    "stream.window_row_groups=2",
    "global_batch_size=20",
    "optim.lr=3e-3",
]

_DENSENET = [f"model.backbone.densenet.{size}" for size in ("stem_channels=8", "depth=1", "growth=4", "bottleneck=8")]
_WIDTHS = [f"model.{part}.{size}" for part in ("encoder", "decoder") for size in ("embed_dim=16", "mlp_dim=32", "num_heads=2")]
_RNN = [f"model.decoder.rnn.{size}" for size in ("hidden_dim=16", "attention_dim=16")]
# One of each kind of recognizer, shrunk: overrides that follow SMALL, of which `model=` leaves the model's part behind.
KINDS = {
    "small": [],
    "joint": ["model.ctc.head=linear"],
    "repulsion": ["model.repulsion=heads"],
    "both_directions": ["model.decoder.direction=both"],
    "rnn": ["model.decoder.name=rnn", *_RNN],
    "ctc": ["model=ctc", "model.encoder.embed_dim=16", "model.encoder.bilstm.hidden_dim=16"],
    "comer": ["model=comer", "model.decoder.depth=2", "model.decoder.refinement_channels=4", *_DENSENET, *_WIDTHS],
    "aster": ["model=aster", "model.decoder.embed_dim=16", *_RNN],
    "satrn_rezero": ["model=satrn_rezero", "model.encoder.depth=1", *_DENSENET, *_WIDTHS],
    "vit": ["model=vit", "model.backbone.resnetv2.depths=[1,1]", "model.encoder.position_columns=64", *_WIDTHS],
    "gates": ["model=seq2seq_light_gates_3", "model.encoder.embed_dim=16", "model.decoder.embed_dim=16", *_RNN],
    "satrn_final": [
        "model=satrn_final", "model.backbone.timm.name=test_resnet", "model.backbone.timm.neck_channels=8", *_WIDTHS
    ],
}  # fmt: skip
