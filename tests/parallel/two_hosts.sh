#!/bin/sh
# Two hosts on one machine: network namespaces joined by a pair of virtual Ethernet
# devices. Runs a program on both by mpirun, whose ranks talk TCP over that wire.
#
# usage: two_hosts.sh RANKS_ON_EACH PROGRAM [ARGUMENT..]
# exit code: the program's; 77 where namespaces are refused (not root, or no iproute2)
set -u
ranks=$1
shift

a=schmidt-a-$$
b=schmidt-b-$$
net=10.$((200 + $$ % 50)).$(($$ / 50 % 250))
folder=$(mktemp -d)
clean() {
  ip netns del $a 2>/dev/null
  ip netns del $b 2>/dev/null
  rm -rf "$folder"
}
trap clean EXIT
trap 'exit 1' INT TERM

if ! ip netns add $a 2>"$folder/log" || ! ip netns add $b 2>>"$folder/log" ||
   ! ip link add wire netns $a type veth peer name wire netns $b 2>>"$folder/log"; then
  echo "skipped: no network namespaces here: $(tail -n 1 "$folder/log")"
  exit 77
fi
ip -n $a addr add $net.1/24 dev wire
ip -n $b addr add $net.2/24 dev wire
for host in $a $b; do
  ip -n $host link set lo up
  ip -n $host link set wire up
done

# Takes the place of ssh: the other host is a namespace with a name of its own.
cat >"$folder/agent" <<END
#!/bin/sh
shift
exec ip netns exec $b unshare --uts sh -c "hostname $b; \$*"
END
chmod +x "$folder/agent"

ip netns exec $a unshare --uts sh -c "hostname $a; exec \"\$@\"" sh \
  mpirun --allow-run-as-root --mca plm_rsh_agent "$folder/agent" \
  --host $net.1:$ranks,$net.2:$ranks --map-by node --oversubscribe \
  --mca btl tcp,self --mca btl_tcp_if_include $net.0/24 --mca oob_tcp_if_include $net.0/24 \
  -x OMP_NUM_THREADS=1 "$@"
