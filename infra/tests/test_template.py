"""The template is as it should be, and each way of breaking it is seen. Run with `python -m unittest` in this folder."""

from __future__ import annotations

import copy
import unittest
from typing import Callable

import cloudformation
import policy
from cloudformation import Stack
from iam import S3, allows, matches

TEMPLATE = cloudformation.load()


def properties(template: dict, resource: str) -> dict:
    return template["Resources"][resource]["Properties"]


def statement(template: dict, resource: str, sid: str) -> dict:
    """A statement, to be broken."""
    documents = policy.documents(template["Resources"][resource])
    return next(s for d in documents for s in d["Statement"] if s.get("Sid") == sid)


def broken(change: Callable[[dict], object]) -> list[str]:
    """The faults of the template after a change."""
    template = copy.deepcopy(TEMPLATE)
    change(template)
    return policy.faults(template)


class IsAsItShouldBe(unittest.TestCase):
    def test_nothing_is_wrong(self) -> None:
        self.assertEqual(policy.faults(TEMPLATE), [])

    def test_every_known_statement_is_there(self) -> None:
        stack = Stack(TEMPLATE, **policy.LAB, KmsKeyArn=policy.KEY)
        there = {
            (name, s["Sid"])
            for name, resource in stack.resources().items()
            for document in policy.documents(resource)
            for s in document["Statement"]
        }
        self.assertEqual(there, set(policy.KNOWN))

    def test_a_bucket_that_exists_stays_as_it_is(self) -> None:
        there = Stack(TEMPLATE, **policy.LAB, MakeBucket="false").resources()
        self.assertFalse({"Bucket", "BucketPolicy"} & set(there))

    def test_the_input_may_be_a_whole_other_bucket(self) -> None:
        stack = Stack(TEMPLATE, InputBucket="scans", InputPrefix="", OutputBucket="bucket")
        s3 = S3(policy.of_function(stack), {"scans/foam.zarr/zarr.json"})
        self.assertEqual(s3.get("scans", "foam.zarr/zarr.json"), 200)
        self.assertEqual(s3.get("scans", "foam.zarr/0/c/0"), 404)
        self.assertEqual(s3.put("scans", "runs/a"), 403)
        self.assertEqual(s3.put("bucket", "runs/a"), 200)
        self.assertEqual(s3.get("bucket", "a"), 403)

    def test_the_web_is_read_only_where_that_was_asked_for(self) -> None:
        for asked, wanted in (("false", None), ("true", "http")):
            function = Stack(TEMPLATE, **policy.LAB, AllowHttp=asked).resources()["Function"]["Properties"]
            self.assertEqual(function["Environment"]["Variables"].get("VOXMILL_ALLOW"), wanted)

    def test_an_output_inside_the_input_can_not_be_written(self) -> None:
        folders = {"InputPrefix": "lab/", "OutputPrefix": "lab/runs/"}
        s3 = S3(policy.of_function(Stack(TEMPLATE, InputBucket="bucket", OutputBucket="bucket", **folders)))
        self.assertEqual(s3.put("bucket", "lab/runs/a"), 403)

    def test_the_caller_invokes_versions_of_this_function_only(self) -> None:
        may = policy.of_caller(Stack(TEMPLATE, **policy.LAB))
        ours = "arn:aws:lambda:eu-central-1:111122223333:function:voxmill"
        for action, resource, wanted in (
            ("lambda:InvokeFunction", f"{ours}:live", True),
            ("lambda:InvokeFunction", f"{ours}:12", True),
            ("lambda:GetFunctionConfiguration", ours, True),
            ("lambda:GetFunctionConcurrency", ours, True),
            ("lambda:GetAccountSettings", "*", True),
            ("lambda:InvokeFunction", f"{ours}2:live", False),
            ("lambda:UpdateFunctionCode", ours, False),
            ("lambda:GetFunction", ours, False),
            ("lambda:PutFunctionConcurrency", ours, False),
            ("s3:PutBucketPolicy", "arn:aws:s3:::bucket", False),
            ("s3:DeleteBucket", "arn:aws:s3:::bucket", False),
            ("iam:PassRole", "*", False),
        ):
            with self.subTest(action=action, resource=resource):
                self.assertEqual(allows(may, action, resource), wanted)

    def test_parameters_that_would_open_more_are_refused(self) -> None:
        for name, values in {
            "InputPrefix": ["lab", "lab/*/", "*", "/", "/lab/", "lab//", "../", "lab/../x/", "a,b/", "a b/", "${aws:x}/"],
            "OutputPrefix": ["", "lab", "runs*/", "./", "a/./b/"],
            "InputBucket": ["*", "s3://bucket", "bucket/lab", "Bucket", ""],
            "OutputBucket": ["", "bucket/*"],
            "ScratchDays": ["1"],
            "MakeBucket": ["yes"],
            "KmsKeyArn": ["*", "alias/mine"],
        }.items():
            for value in values:
                with self.subTest(name, value=value), self.assertRaises(ValueError):
                    Stack(TEMPLATE, **{**policy.LAB, name: value})

    def test_one_bucket_needs_two_folders(self) -> None:
        for folders in ({"InputPrefix": ""}, {"InputPrefix": "runs/"}):
            with self.assertRaises(ValueError):
                Stack(TEMPLATE, InputBucket="bucket", OutputBucket="bucket", **folders)


class SeesFaults(unittest.TestCase):
    """Each is what a hurried hand might do."""

    def seen(self, word: str, change: Callable[[dict], object]) -> None:
        found = broken(change)
        self.assertTrue(any(word in fault for fault in found), f"{word!r} is not among {found}")

    def test_wider_permissions(self) -> None:
        bucket = {"Fn::Sub": "arn:${AWS::Partition}:s3:::${OutputBucket}/*"}
        input_ = {"Fn::Sub": "arn:${AWS::Partition}:s3:::${InputBucket}/${InputPrefix}*"}
        no_slash = {"Fn::Sub": "arn:${AWS::Partition}:s3:::${InputBucket}/lab*"}
        for word, resource, sid, change in (
            ("known are", "Role", "ReadAndWriteOutput", {"Action": "s3:*"}),
            ("wildcard among its actions", "Role", "ReadInput", {"Action": ["s3:Get*"]}),
            ("every resource", "Role", "ReadInput", {"Resource": "*"}),
            ("get lab/secret is answered 200", "Role", "ReadInput", {"Resource": bucket}),
            ("get lab2/", "Role", "ReadInput", {"Resource": no_slash}),
            ("put lab2/runs/a is answered 200", "Role", "ReadAndWriteOutput", {"Resource": bucket}),
            ("put lab/scans/foam.zarr/0/c/0/0/0 is answered 200", "CallerPolicy", "ReadAndWriteOutput", {"Resource": bucket}),
            ("into another bucket", "Role", "ReadAndWriteOutput", {"Resource": "arn:aws:s3:::*"}),
            ("put lab/runs/foam/labels.zarr/0/c/0/0/0 is answered 403", "Role", "NeverWriteInput", {"Resource": bucket}),
            ("run.json with a tag", "Role", "TagScratch", {"Resource": bucket}),
            ("every resource", "Role", "WriteLog", {"Resource": "*"}),
            ("every resource", "KeyPolicy", "UseKey", {"Resource": "*"}),
            ("known are", "KeyPolicy", "UseKey", {"Action": "kms:*"}),
            ("every resource", "CallerPolicy", "Invoke", {"Resource": "*"}),
            ("doesn't mean", "Role", "ReadInput", {"NotResource": input_}),
        ):
            with self.subTest(word=word, sid=sid):
                self.seen(word, lambda t, r=resource, s=sid, c=change: statement(t, r, s).update(c))

    def test_an_input_that_can_be_written(self) -> None:
        def both(template: dict) -> None:
            statement(template, "Role", "NeverWriteInput")["Effect"] = "Allow"

        self.seen("function: put lab/scans/foam.zarr/0/c/0/0/0 is answered 200", both)

    def test_lists_that_tell_too_much_or_too_little(self) -> None:
        for who in ("Role", "CallerPolicy"):
            self.seen("lists the whole bucket", lambda t: statement(t, who, "ListInput").pop("Condition"))
            self.seen("list None is answered 200", lambda t: statement(t, who, "ListOutput").pop("Condition"))
            without = {"StringLike": {"s3:prefix": {"Fn::Sub": "${InputPrefix}"}}}
            self.seen(
                "get lab/scans/foam.zarr/0/c/9/9/9 is answered 403, not 404",
                lambda t: statement(t, who, "ListInput").update(Condition=without),
            )
            exists = {"StringLikeIfExists": {"s3:prefix": {"Fn::Sub": "${OutputPrefix}*"}}}
            self.seen("list None is answered 200", lambda t: statement(t, who, "ListOutput").update(Condition=exists))

    def test_a_new_statement(self) -> None:
        more = {"Sid": "More", "Effect": "Allow", "Action": "s3:GetObject", "Resource": "*"}

        def add(template: dict) -> None:
            properties(template, "Role")["Policies"][0]["PolicyDocument"]["Statement"].append(more)

        self.seen("Role.More: not a statement that is known", add)

    def test_a_managed_policy(self) -> None:
        arns = ["arn:aws:iam::aws:policy/AmazonS3FullAccess"]
        self.seen("somebody else", lambda t: properties(t, "Role").update(ManagedPolicyArns=arns))

    def test_everybody(self) -> None:
        self.seen("is for everybody", lambda t: statement(t, "BucketPolicy", "TlsOnly").update(Effect="Allow"))
        self.seen("is for everybody", lambda t: statement(t, "Role", "Lambda").update(Principal={"AWS": "*"}))

    def test_tls(self) -> None:
        self.seen("without TLS is let in", lambda t: statement(t, "BucketPolicy", "TlsOnly")["Resource"].pop())
        self.seen("without TLS is let in", lambda t: t["Resources"].pop("BucketPolicy"))
        bool_ = {"Bool": {"aws:SecureTransport": "true"}}
        self.seen("with TLS is refused", lambda t: statement(t, "BucketPolicy", "TlsOnly").update(Condition=bool_))

    def test_the_bucket(self) -> None:
        def bucket(word: str, change: Callable[[dict], object]) -> None:
            self.seen(word, lambda t: change(properties(t, "Bucket")))

        bucket("public access", lambda p: p.pop("PublicAccessBlockConfiguration"))
        bucket("public access", lambda p: p["PublicAccessBlockConfiguration"].update(IgnorePublicAcls=False))
        bucket("is encrypted by []", lambda p: p.pop("BucketEncryption"))
        bucket("access lists", lambda p: p.pop("OwnershipControls"))
        self.seen("goes with the stack", lambda t: t["Resources"]["Bucket"].pop("DeletionPolicy"))

    def test_the_lifecycle(self) -> None:
        def rule(word: str, n: int, change: Callable[[dict], object]) -> None:
            self.seen(word, lambda t: change(properties(t, "Bucket")["LifecycleConfiguration"]["Rules"][n]))

        rule("unfinished uploads stay", 0, lambda r: r.update(Status="Disabled"))
        rule("scratch that nobody wants", 1, lambda r: r.update(Status="Disabled"))
        rule("deletes more than scratch", 1, lambda r: r.pop("TagFilters"))
        rule("deletes outside the output", 1, lambda r: r.pop("Prefix"))
        rule("runs that are not done", 1, lambda r: r.update(ExpirationInDays=3))

    def test_the_log(self) -> None:
        self.seen("for ever", lambda t: properties(t, "LogGroup").pop("RetentionInDays"))
        self.seen("logs elsewhere", lambda t: properties(t, "Function").pop("LoggingConfig"))
        self.seen("REPORT", lambda t: properties(t, "Function")["LoggingConfig"].update(SystemLogLevel="WARN"))
        self.seen("doesn't watch the Errors", lambda t: t["Resources"].pop("ErrorAlarm"))
        self.seen("doesn't watch the Throttles", lambda t: properties(t, "ThrottleAlarm").pop("Dimensions"))

    def test_the_function(self) -> None:
        def function(word: str, change: Callable[[dict], object]) -> None:
            self.seen(word, lambda t: change(properties(t, "Function")))

        function("publishes no version", lambda p: p.pop("AutoPublishAlias"))
        function("tried again", lambda p: p["EventInvokeConfig"].update(MaximumRetryAttempts=2))
        function("traces", lambda p: p.update(Tracing="Active"))
        function("another role", lambda p: p.pop("Role"))
        function("another role", lambda p: p.update(Policies=["AmazonS3FullAccess"]))
        function("others than the coordinator", lambda p: p.update(FunctionUrlConfig={"AuthType": "NONE"}))
        function("VOXMILL_OUTPUTS is", lambda p: p["Environment"]["Variables"].update(VOXMILL_OUTPUTS="s3://bucket/"))
        function("files or the web", lambda p: p["Environment"]["Variables"].update(VOXMILL_ALLOW="file"))

    def test_the_outputs(self) -> None:
        self.seen("Environment: says", lambda t: t["Outputs"].pop("Environment"))
        self.seen("Command: doesn't say", lambda t: t["Outputs"]["Command"].update(Value="voxmill run"))
        self.seen("published version", lambda t: t["Outputs"]["FunctionName"].update(Value={"Ref": "Function"}))


class TheEvaluator(unittest.TestCase):
    """IAM's rules, as its documentation has them."""

    def test_patterns(self) -> None:
        for pattern, text, wanted in (
            ("a/*", "a/b/c", True),
            ("a/*", "a/", True),
            ("a/*", "a", False),
            ("a?c", "abc", True),
            ("a.c", "abc", False),
            ("a", "A", False),
        ):
            self.assertEqual(matches(pattern, text), wanted, (pattern, text))

    def test_a_deny_wins_and_silence_is_no(self) -> None:
        allow = {"Effect": "Allow", "Action": "s3:get*", "Resource": "*"}
        deny = {"Effect": "Deny", "Action": "s3:GetObject", "Resource": "b/secret/*"}
        self.assertTrue(allows([deny, allow], "s3:GetObject", "b/a"))
        self.assertFalse(allows([allow, deny], "s3:GetObject", "b/secret/a"))
        self.assertFalse(allows([allow], "s3:PutObject", "b/a"))
        self.assertFalse(allows([], "s3:GetObject", "b/a"))

    def test_a_condition_needs_its_key(self) -> None:
        for operator, without in (("StringLike", False), ("StringLikeIfExists", True)):
            may = [{"Effect": "Allow", "Action": "*", "Resource": "*", "Condition": {operator: {"s3:prefix": ["a/*", "b"]}}}]
            self.assertEqual(allows(may, "s3:ListBucket", "b"), without)
            self.assertTrue(allows(may, "s3:ListBucket", "b", {"s3:prefix": "a/b"}))
            self.assertFalse(allows(may, "s3:ListBucket", "b", {"s3:prefix": "bb"}))

    def test_what_it_does_not_know_it_refuses(self) -> None:
        odd = {"Effect": "Allow", "Action": "*", "Resource": "*", "Condition": {"IpAddress": {"aws:SourceIp": "1.2.3.4"}}}
        with self.assertRaises(NotImplementedError):
            allows([odd], "s3:GetObject", "b/a", {"aws:SourceIp": "1.2.3.4"})
        with self.assertRaises(NotImplementedError):
            allows([{"Effect": "Allow", "NotAction": "a", "Action": "b", "Resource": "*"}], "b", "c")


if __name__ == "__main__":
    unittest.main()
