"""The cluster files at the root and for one's own machines: what Ray itself says of them, and what they must hold."""

import copy
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import jsonschema  # type: ignore[import-untyped]
import pytest
import ray.autoscaler
import yaml
from ray.autoscaler._private.util import prepare_config, validate_config

from tests.support.places import ROOT

AWS = ROOT / "ray_cluster.yaml"
ONPREM = ROOT / "cluster" / "ray_cluster_onprem.yaml"
BOTH = pytest.mark.parametrize("path", [AWS, ONPREM], ids=lambda path: path.stem)


def load(path: Path) -> dict[str, Any]:
    """The file as Ray reads it."""
    config = yaml.safe_load(path.read_text())
    assert isinstance(config, dict)
    return config


def start_commands(config: dict[str, Any]) -> dict[str, str]:
    """The one command that starts Ray, by list."""
    found = {}
    for name in ("head_start_ray_commands", "worker_start_ray_commands"):
        (found[name],) = [command for command in config[name] if "ray start" in command]
    return found


@BOTH
def test_rays_schema_accepts_it(path: Path) -> None:
    schema = json.loads((Path(ray.autoscaler.__file__).parent / "ray-schema.json").read_text())
    jsonschema.validate(load(path), schema)


@BOTH
def test_ray_prepares_and_validates_it(path: Path) -> None:
    config = load(path)
    prepared = prepare_config(copy.deepcopy(config))
    validate_config(prepared)
    assert prepared["cluster_name"] == config["cluster_name"]
    assert prepared["max_workers"] == config["max_workers"]
    # Ray's own defaults must not have replaced or joined what the file says.
    for name in ("head_start_ray_commands", "worker_start_ray_commands"):
        assert prepared[name] == config[name]


@BOTH
def test_validation_would_notice_a_misspelt_key(path: Path) -> None:
    prepared = prepare_config(load(path))
    prepared["max_wrokers"] = 3
    with pytest.raises(jsonschema.ValidationError, match="max_wrokers"):
        validate_config(prepared)


@BOTH
def test_authentication_is_said_outright_and_the_token_is_a_file(path: Path) -> None:
    config = load(path)
    options = " ".join(config.get("docker", {}).get("run_options", []))
    for command in start_commands(config).values():
        assert "RAY_AUTH_MODE=token" in options + command
    assert config["file_mounts"]["~/.ray/auth_token"] == "~/.ray/auth_token"
    settings = "\n".join(line for line in path.read_text().splitlines() if not line.lstrip().startswith("#"))
    assert not re.search(r"RAY_AUTH_TOKEN=|AWS_SECRET_ACCESS_KEY|aws_secret|password", settings, re.IGNORECASE)


@BOTH
def test_the_dashboard_listens_on_loopback(path: Path) -> None:
    assert "--dashboard-host=127.0.0.1" in start_commands(load(path))["head_start_ray_commands"]


@BOTH
def test_local_files_exist_and_commands_are_shell(path: Path) -> None:
    config = load(path)
    for local in config["file_mounts"].values():
        assert local.startswith("~") or (ROOT / local).is_file(), f"{local} is mounted but is not in the repository"
    lists = [value for name, value in config.items() if name.endswith("_commands")]
    for command in (command for commands in lists for command in commands):
        checked = subprocess.run(["bash", "-n", "-c", command], capture_output=True, text=True)
        assert checked.returncode == 0, f"{command}: {checked.stderr}"


def test_the_image_is_the_locks_ray_on_the_locks_python() -> None:
    image = load(AWS)["docker"]["image"]
    pinned = re.search(r"^ray(?:\[[^]]*\])?==(\S+)", (ROOT / "requirements.lock").read_text(), re.MULTILINE)
    assert pinned, "requirements.lock pins no ray"
    version, python, _ = image.removeprefix("rayproject/ray:").split("-")
    assert version == pinned[1]
    assert python == "py311"


def test_the_locks_torch_passes_the_check_for_v100_kernels() -> None:
    (check,) = [command for command in load(AWS)["setup_commands"] if "sm_70" in command]
    code = re.fullmatch(r'python -c "(.*)"', check)
    assert code, check
    compile(code[1], "setup_commands", "exec")
    for flags, accepted in (("'sm_70 sm_80'", True), ("'sm_75 sm_80'", False), ("None", False)):
        script = code[1].replace("torch._C._cuda_getArchFlags()", flags).replace("import sys, torch;", "import sys;")
        script = script.replace("torch.__version__", "'x'")
        assert (subprocess.run([sys.executable, "-c", script], capture_output=True).returncode == 0) is accepted


def test_on_aws_the_head_runs_no_tasks_and_the_workers_have_v100s_and_plain_cpus() -> None:
    config = load(AWS)
    types = config["available_node_types"]
    assert types[config["head_node_type"]]["resources"] == {"CPU": 0}
    instances = {name: node["node_config"]["InstanceType"] for name, node in types.items()}
    assert instances["v100"].startswith("p3.") and not instances["data"].startswith("p")
    assert sum(node.get("max_workers", 0) for node in types.values()) <= config["max_workers"]


def test_on_aws_the_role_that_may_start_nodes_is_the_heads_alone() -> None:
    config = load(AWS)
    profiles = {
        name: node["node_config"]["IamInstanceProfile"]["Name"] for name, node in config["available_node_types"].items()
    }
    head = profiles.pop(config["head_node_type"])
    assert profiles and set(profiles.values()) == {"inkray-worker"} and head == "inkray-head"
    # What the file's head says to create, as the shell would read it.
    said = "\n".join(line.removeprefix("#") for line in AWS.read_text().splitlines() if line.startswith("#"))
    policies = {name: json.loads(text) for name, text in re.findall(r"(\w+)='(\{.*?\})'\s*\n", said, re.DOTALL)[-3:]}
    assert set(policies) == {"trust", "bucket", "nodes"}
    actions = {name: str([each["Action"] for each in policy["Statement"]]) for name, policy in policies.items()}
    assert "ec2:" not in actions["bucket"] and "iam:" not in actions["bucket"] and "ec2:RunInstances" in actions["nodes"]
    passed = [each for each in policies["nodes"]["Statement"] if each["Action"] == "iam:PassRole"]
    assert [each["Resource"].rpartition("/")[2] for each in passed] == ["inkray-worker"]
    commands = said[said.index("  for name in") :]
    assert "--role-name inkray-head --policy-name nodes" in commands and commands.count("$nodes") == 1


def test_onprem_uses_the_autoscaler_that_logs_in_and_free_ports() -> None:
    commands = start_commands(load(ONPREM))
    # `ray up` puts RAY_enable_autoscaler_v2=1 in front: ours must come later, and before ray starts.
    assert re.search(r"export [^;]*RAY_enable_autoscaler_v2=0[^;]*;.*ray start", commands["head_start_ray_commands"])
    gcs = int(re.search(r"--port=(\d+)", commands["head_start_ray_commands"])[1])  # type: ignore[index]
    assert not 10002 <= gcs <= 19999
    for command in commands.values():
        agent = int(re.search(r"--dashboard-agent-listen-port=(\d+)", command)[1])  # type: ignore[index]
        assert agent < 32768 and not 10002 <= agent <= 19999
