#!/usr/bin/env bash
# Makes the operator's IAM policy and role (IRSA) for an EKS cluster from the guide's two documents, with the aws
# command that is on PATH, and prints the role's ARN. Asking again changes nothing.
#
#   scripts/iam-role.sh CLUSTER [ROLE] [POLICY.yaml] [TRUST.yaml]
set -euo pipefail
here=$(cd "$(dirname "$0")/.." && pwd)
[ $# -ge 1 ] || { echo "usage: $0 CLUSTER [ROLE] [POLICY.yaml] [TRUST.yaml]" >&2; exit 2; }
cluster=$1 role=${2:-CiliumOperatorRole}
policy=${3:-$here/examples/cilium-operator-policy.yaml} trust=${4:-$here/examples/cilium-operator-trust.yaml}
for tool in aws yq; do command -v $tool >/dev/null || { echo "$0: found no $tool command: install it" >&2; exit 1; }; done

account=$(aws sts get-caller-identity --query Account --output text)
issuer=$(aws eks describe-cluster --name "$cluster" --query cluster.identity.oidc.issuer --output text)
provider=${issuer#https://}
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT
yq . "$policy" > "$work/policy.json"
sed -e "s|<ACCOUNT_ID>|$account|g" -e "s|<OIDC_PROVIDER_ID>|$provider|g" "$trust" | yq . > "$work/trust.json"

arn=arn:aws:iam::$account:role/$role
if ! aws iam get-role --role-name "$role" >/dev/null 2>&1; then
  aws iam create-role --role-name "$role" --assume-role-policy-document "$(cat "$work/trust.json")" >/dev/null
fi
aws iam put-role-policy --role-name "$role" --policy-name weft-operator --policy-document "$(cat "$work/policy.json")"
echo "$arn"
