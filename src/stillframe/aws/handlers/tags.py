"""Tags and resource policies: what hangs on an ARN."""

from collections.abc import Mapping
from typing import Any

from stillframe.aws.dispatch import Handler
from stillframe.aws.handlers.values import tags_of
from stillframe.domain.access import Caller, ResourcePolicy
from stillframe.service.policies import ResourcePolicies
from stillframe.service.tags import Tags


class TagHandlers:
    """The tag and policy operations on the wire."""

    def __init__(self, tags: Tags, policies: ResourcePolicies) -> None:
        self._tags = tags
        self._policies = policies

    def table(self) -> Mapping[str, Handler]:
        """Handlers by operation."""
        return {
            "TagResource": self.tag,
            "UntagResource": self.untag,
            "ListTagsForResource": self.list,
            "PutResourcePolicy": self.put_policy,
            "GetResourcePolicy": self.get_policy,
            "DeleteResourcePolicy": self.delete_policy,
        }

    def tag(self, caller: Caller, members: dict[str, Any]) -> Mapping[str, Any]:
        """TagResource."""
        self._tags.tag(caller, members["resourceArn"], tags_of(members))
        return {}

    def untag(self, caller: Caller, members: dict[str, Any]) -> Mapping[str, Any]:
        """UntagResource."""
        self._tags.untag(caller, members["resourceArn"], members["tagKeys"])
        return {}

    def list(self, caller: Caller, members: dict[str, Any]) -> Mapping[str, Any]:
        """ListTagsForResource."""
        tags = self._tags.list(caller, members["resourceArn"])
        return {"tags": [{"key": tag.key, "value": tag.value} for tag in tags]}

    def put_policy(self, caller: Caller, members: dict[str, Any]) -> Mapping[str, Any]:
        """PutResourcePolicy."""
        return _present(self._policies.put(caller, members["resourceArn"], members["policy"]))

    def get_policy(self, caller: Caller, members: dict[str, Any]) -> Mapping[str, Any]:
        """GetResourcePolicy."""
        return _present(self._policies.get(caller, members["resourceArn"]))

    def delete_policy(self, caller: Caller, members: dict[str, Any]) -> Mapping[str, Any]:
        """DeleteResourcePolicy."""
        self._policies.delete(caller, members["resourceArn"])
        return {}


def _present(policy: ResourcePolicy) -> Mapping[str, Any]:
    return {"resourcePolicy": {"resourceArn": policy.resource_arn, "policy": policy.policy}}
