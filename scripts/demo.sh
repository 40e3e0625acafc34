#!/usr/bin/env bash
# make demo: EKS in a box, weft on it from the guide's own values, tested, and left running.
# A demo that is already there is removed first, so that it can be run twice in a row.
set -euo pipefail
cd "$(dirname "$0")/.."
name=demo work=build/demo cluster=weft-demo region=us-west-2
lab=$PWD/bin/lab
started=$SECONDS
step() { printf '\n==> %s  (%d s)\n' "$*" $((SECONDS - started)); }
trap 'code=$?; [ $code = 0 ] || printf "\nThe demo ended early. What is left running goes with:  bin/lab delete cluster --name %s\n" "$name"' EXIT

mkdir -p "$work"
step "removing an earlier demo, if there is one"
"$lab" delete cluster --name $name

step "EKS in a box, from the guide's ClusterConfig (examples/eks-config.yaml)"
sed -e "s/<cluster-name>/$cluster/" -e "s/<cluster-region>/$region/" examples/eks-config.yaml > "$work/eks-config.yaml"
"$lab" create cluster -f "$work/eks-config.yaml" --name $name
eval "$("$lab" env --name $name)"
"$lab" image load --name $name build/images/*.tar

step "the operator's IAM role, from the guide's policy and trust documents"
role=$(scripts/iam-role.sh $cluster)
account=$(cut -d: -f5 <<<"$role")
echo "$role"

step "weft, from the guide's values (examples/cilium-config.yaml)"
sed -e "s/<cluster-name>/$cluster/" -e "s/<cluster-region>/$region/" -e "s/<default-aws-region>/$region/" -e "s/<ACCOUNT_ID>/$account/" \
  examples/cilium-config.yaml > "$work/cilium-config.yaml"
bin/weft install --values "$work/cilium-config.yaml"

step "waiting until everything is healthy"
bin/weft status --wait --wait-duration 3m

step "the connectivity test"
bin/weft connectivity test

step "done"
cat <<EOF

A Kubernetes cluster of three nodes with weft runs on this machine. In another shell:

  cd $PWD
  eval "\$(bin/lab env --name $name)"        # kubectl, helm, weft and aws now mean the lab
  kubectl get nodes -o wide
  kubectl get nodenetworks                  # the ENIs and addresses that weft manages
  kubectl -n weft-test-1 get pods -o wide   # pods with addresses of the VPC
  aws ec2 describe-network-interfaces --query 'NetworkInterfaces[].[NetworkInterfaceId,PrivateIpAddress,Description]' --output table
  weft status
  weft connectivity test --test 'services/'

Remove it all:  bin/lab delete cluster --name $name
EOF
