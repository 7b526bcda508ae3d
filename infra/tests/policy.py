"""What is wrong with a template, in sentences: every permission must be one that is known here, with its reason, and every
bucket and log must be as the README promises. A statement that is not in `KNOWN` is a fault, however harmless."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Iterator

from answers import ANSWERS, RUN, THERE
from cloudformation import Stack
from iam import S3, allows, listed, matches

# Parameters as a laboratory would give them: one bucket, two folders.
LAB = {"InputBucket": "bucket", "InputPrefix": "lab/scans/", "OutputBucket": "bucket", "OutputPrefix": "lab/runs/"}
KEY = "arn:aws:kms:eu-central-1:111122223333:key/0a1b"


@dataclass(frozen=True)
class Known:
    """A statement that may be there: what it may do, and why its resource has a wildcard, if it has one."""

    actions: frozenset[str]
    reason: str = ""


def _known(actions: str, reason: str = "") -> Known:
    return Known(frozenset(actions.split()), reason)


READ = "s3:GetObject"
WRITE = "s3:GetObject s3:PutObject s3:DeleteObject s3:AbortMultipartUpload"
BELOW = "keys below a folder can't be listed beforehand; the folder ends in a slash, so that lab/ is not lab2/"

# Every statement there is, by resource and Sid. One with a wildcard in its resource must say why.
KNOWN: dict[tuple[str, str], Known] = {
    ("Role", "Lambda"): _known("sts:AssumeRole"),
    ("Role", "ReadInput"): _known(READ, BELOW),
    ("Role", "ReadAndWriteOutput"): _known(WRITE, BELOW),
    ("Role", "TagScratch"): _known(
        "s3:PutObjectTagging", "scratch lies in a folder of each run; what is there may be tagged, answers may not"
    ),
    ("Role", "ListInput"): _known("s3:ListBucket"),
    ("Role", "ListOutput"): _known("s3:ListBucket"),
    ("Role", "NeverWriteInput"): _known(
        "s3:PutObject s3:PutObjectTagging s3:DeleteObject s3:AbortMultipartUpload", "a Deny: the wider, the safer"
    ),
    ("Role", "WriteLog"): _known(
        "logs:CreateLogStream logs:PutLogEvents", "Lambda names the streams of the one group, one for each instance"
    ),
    ("KeyPolicy", "UseKey"): _known("kms:Decrypt kms:GenerateDataKey"),
    ("CallerPolicy", "Invoke"): _known(
        "lambda:InvokeFunction lambda:GetFunctionConfiguration", "versions and aliases of the one function"
    ),
    ("CallerPolicy", "Concurrency"): _known("lambda:GetFunctionConcurrency"),
    ("CallerPolicy", "AccountLimit"): _known(
        "lambda:GetAccountSettings", "knows no resources: IAM takes nothing but * for it. It reads two numbers"
    ),
    ("CallerPolicy", "ReadInput"): _known(READ, BELOW),
    ("CallerPolicy", "ReadAndWriteOutput"): _known(WRITE, BELOW),
    ("CallerPolicy", "ListInput"): _known("s3:ListBucket"),
    ("CallerPolicy", "ListOutput"): _known("s3:ListBucket"),
    ("CallerPolicy", "UseKey"): _known("kms:Decrypt kms:GenerateDataKey"),
    ("BucketPolicy", "TlsOnly"): _known("s3:*", "a Deny of everything that comes without TLS"),
}

HARDENED = {
    "BlockPublicAcls": True,
    "BlockPublicPolicy": True,
    "IgnorePublicAcls": True,
    "RestrictPublicBuckets": True,
}


def documents(resource: dict) -> Iterator[dict]:
    """Every policy document in a resource."""
    if isinstance(resource, dict):
        for key, value in resource.items():
            if key.endswith("PolicyDocument"):
                yield value
            else:
                yield from documents(value)
    elif isinstance(resource, list):
        for value in resource:
            yield from documents(value)


def statements(stack: Stack, *names: str) -> list[dict]:
    """The statements of some resources, without who may take a role on."""
    there = stack.resources()
    found = (s for name in names if name in there for d in documents(there[name]) for s in d["Statement"])
    return [s for s in found if s["Action"] != "sts:AssumeRole"]


def of_function(stack: Stack) -> list[dict]:
    """What the function may do."""
    return statements(stack, "Role", "KeyPolicy")


def of_caller(stack: Stack) -> list[dict]:
    """What whoever runs the coordinator may do, by our policy."""
    return statements(stack, "CallerPolicy")


def faults(template: dict) -> list[str]:
    """Everything that is wrong with a template."""
    found: list[str] = []
    for key in ("", KEY):
        stack = Stack(template, **LAB, KmsKeyArn=key)
        for check in (_statements, _buckets, _logs, _function, _requests, _outputs):
            try:
                found += check(stack)
            except NotImplementedError as unknown:
                found.append(f"{check.__name__}: can't be judged: {unknown}")
    return sorted(set(found))


def _statements(stack: Stack) -> Iterator[str]:
    for name, resource in stack.resources().items():
        if resource.get("Properties", {}).get("ManagedPolicyArns"):
            yield f"{name}: has policies that somebody else may change"
        for document in documents(resource):
            for statement in document["Statement"]:
                yield from _statement(name, statement)


def _statement(name: str, statement: dict) -> Iterator[str]:
    sid = f"{name}.{statement.get('Sid', '?')}"
    known = KNOWN.get((name, statement.get("Sid", "?")))
    if known is None:
        yield f"{sid}: not a statement that is known here"
        return
    actions, resources = listed(statement["Action"]), listed(statement.get("Resource", []))
    denies = statement["Effect"] == "Deny"
    if set(actions) != known.actions:
        yield f"{sid}: may do {sorted(actions)}, known are {sorted(known.actions)}"
    if not denies and any("*" in action or "?" in action for action in actions):
        yield f"{sid}: has a wildcard among its actions"
    if any(key.startswith("Not") for key in statement):
        yield f"{sid}: says what it doesn't mean (NotAction, NotResource, NotPrincipal)"
    if any("*" in resource or "?" in resource for resource in resources) and not known.reason:
        yield f"{sid}: has a wildcard among its resources, and no reason is known"
    if "*" in resources and sid != "CallerPolicy.AccountLimit":
        yield f"{sid}: is about every resource there is"
    if "*" in str(statement.get("Principal", "")) and not denies:
        yield f"{sid}: is for everybody"
    if "s3:ListBucket" in actions and "s3:prefix" not in statement.get("Condition", {}).get("StringLike", {}):
        yield f"{sid}: lists the whole bucket"


def _buckets(stack: Stack) -> Iterator[str]:
    resources = stack.resources()
    if "Bucket" not in resources:
        yield "Bucket: is not made where it should be"
        return
    bucket = resources["Bucket"]
    properties = bucket["Properties"]
    if "Retain" != bucket.get("DeletionPolicy") or "Retain" != bucket.get("UpdateReplacePolicy"):
        yield "Bucket: goes with the stack, and the answers with it"
    if properties.get("PublicAccessBlockConfiguration") != HARDENED:
        yield "Bucket: public access is not blocked"
    if properties.get("OwnershipControls") != {"Rules": [{"ObjectOwnership": "BucketOwnerEnforced"}]}:
        yield "Bucket: access lists of objects are not off"
    encryption = [
        rule["ServerSideEncryptionByDefault"]
        for rule in properties.get("BucketEncryption", {}).get("ServerSideEncryptionConfiguration", [])
    ]
    key = stack.values["KmsKeyArn"]
    wanted = {"SSEAlgorithm": "aws:kms", "KMSMasterKeyID": key} if key else {"SSEAlgorithm": "AES256"}
    if encryption != [wanted]:
        yield f"Bucket: is encrypted by {encryption}, not by {wanted}"
    yield from _tls(resources)
    yield from _lifecycle(properties.get("LifecycleConfiguration", {}).get("Rules", []), stack)


def _tls(resources: dict) -> Iterator[str]:
    policy = resources.get("BucketPolicy", {}).get("Properties", {})
    denies = [s for d in documents(policy) for s in d["Statement"] if s["Effect"] == "Deny" and s["Principal"] == "*"]
    # Somebody with every right there is, asking for the bucket and for an object in it, with TLS and without.
    may = [{"Effect": "Allow", "Action": "*", "Resource": "*"}, *denies]
    for action, resource in (("s3:ListBucket", "bucket"), ("s3:GetObject", "bucket/a"), ("s3:PutObject", "bucket/a/b")):
        for tls, wanted in (("true", True), ("false", False)):
            if allows(may, action, f"arn:aws:s3:::{resource}", {"aws:SecureTransport": tls}) != wanted:
                how, what = "with" if tls == "true" else "without", "refused" if wanted else "let in"
                yield f"BucketPolicy: {action} {how} TLS is {what}"


def _lifecycle(rules: list[dict], stack: Stack) -> Iterator[str]:
    enabled = [rule for rule in rules if rule.get("Status") == "Enabled"]
    days = [rule.get("AbortIncompleteMultipartUpload", {}).get("DaysAfterInitiation") for rule in enabled]
    if not any(d and 2 <= d <= 30 for d in days):
        yield "Bucket: unfinished uploads stay, or go too soon"
    expiring = [rule for rule in enabled if any(key.startswith("Expiration") for key in rule)]
    if not expiring:
        yield "Bucket: scratch that nobody wants any more stays"
    for rule in expiring:
        if rule.get("TagFilters") != [{"Key": "voxmill", "Value": "scratch"}]:
            yield f"Bucket: rule {rule.get('Id')} deletes more than scratch"
        if rule.get("Prefix") != stack.values["OutputPrefix"]:
            yield f"Bucket: rule {rule.get('Id')} deletes outside the output"
        if int(rule.get("ExpirationInDays", 0)) < 14:
            yield f"Bucket: rule {rule.get('Id')} deletes the scratch of runs that are not done"


def _logs(stack: Stack) -> Iterator[str]:
    resources = stack.resources()
    log = resources.get("LogGroup", {}).get("Properties", {})
    if not log.get("RetentionInDays"):
        yield "LogGroup: keeps everything for ever"
    logging = resources["Function"]["Properties"].get("LoggingConfig", {})
    if logging.get("LogGroup") != log.get("LogGroupName"):
        yield "Function: logs elsewhere"
    if logging.get("LogFormat") != "JSON" or logging.get("SystemLogLevel") not in ("INFO", "DEBUG"):
        yield "Function: doesn't log its REPORT as JSON"
    for name, metric in (("ThrottleAlarm", "Throttles"), ("ErrorAlarm", "Errors")):
        alarm = resources.get(name, {}).get("Properties", {})
        dimensions = [{"Name": "FunctionName", "Value": "voxmill"}]
        if alarm.get("MetricName") != metric or alarm.get("Dimensions") != dimensions:
            yield f"{name}: doesn't watch the {metric} of the function"


def _function(stack: Stack) -> Iterator[str]:
    function = stack.resources()["Function"]["Properties"]
    if not function.get("AutoPublishAlias") or not function.get("AutoPublishAliasAllProperties"):
        yield "Function: a change of it publishes no version"
    if function.get("EventInvokeConfig", {}).get("MaximumRetryAttempts") != 0:
        yield "Function: events are tried again behind the coordinator's back"
    if function.get("Tracing", "Disabled") == "Active":
        yield "Function: traces, and pays for it"
    if function.get("Role") != "<Role.Arn>" or "Policies" in function:
        yield "Function: has another role than the one that is judged"
    if function.get("Runtime") != "provided.al2023":
        yield "Function: has another runtime than infra/build builds for"
    if any(key in function for key in ("FunctionUrlConfig", "Events")):
        yield "Function: can be called by others than the coordinator"
    variables = function.get("Environment", {}).get("Variables", {})
    for name, url in (("VOXMILL_INPUTS", "s3://bucket/lab/scans/"), ("VOXMILL_OUTPUTS", "s3://bucket/lab/runs/")):
        if variables.get(name) != url:
            yield f"Function: {name} is {variables.get(name)}, its role is for {url}"
    if variables.get("VOXMILL_ALLOW"):
        yield "Function: may read files or the web"


# A request of the caller is answered as the function's is, though by silence: nobody forbids a scientist to write scans
# who may do so by another policy.
def _requests(stack: Stack) -> Iterator[str]:
    for who, allowed in (("function", of_function(stack)), ("caller", of_caller(stack))):
        s3 = S3(allowed, THERE)
        for verb, key, wanted in ANSWERS:
            answer = getattr(s3, verb)("bucket", key)
            if answer != wanted:
                yield f"{who}: {verb} {key} is answered {answer}, not {wanted}"
            # The same in somebody else's bucket is always refused.
            if getattr(s3, verb)("bucket2", key) != 403:
                yield f"{who}: {verb} {key} is let into another bucket"
    s3 = S3(of_function(stack))
    scratch = ".voxmill/scratch/s/0"
    for key, wanted in ((f"{RUN}/{scratch}", 200), (f"lab/runs/{scratch}", 200), (f"{RUN}/run.json", 403)):
        if s3.put("bucket", key, tagged=True) != wanted:
            yield f"function: put {key} with a tag is not answered {wanted}"
    for statement in of_function(stack):
        actions = listed(statement["Action"]) if statement["Effect"] == "Allow" else []
        if any(matches(action, "lambda:InvokeFunction") for action in actions):
            yield "function: may call functions"


def _outputs(stack: Stack) -> Iterator[str]:
    outputs = stack.outputs()
    lines = outputs.get("Environment", "").splitlines()
    wanted = ["AWS_REGION=eu-central-1", "VOXMILL_FUNCTION=voxmill:live", "VOXMILL_BUCKET=bucket"]
    if lines != [f"export {line}" for line in wanted]:
        yield f"Environment: says {lines}"
    command = outputs.get("Command", "")
    run, where = "voxmill run s3://bucket/lab/scans/", " -o s3://bucket/lab/runs/"
    for part in (run, where, "--executor lambda --function voxmill:live"):
        if part not in command:
            yield f"Command: doesn't say {part!r}"
    alias = stack.resources()["Function"]["Properties"].get("AutoPublishAlias")
    if outputs.get("FunctionName") != f"voxmill:{alias}":
        yield "FunctionName: is not the alias of the published version"
