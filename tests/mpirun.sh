#!/bin/sh
# mpirun.sh N PROGRAM [ARG...]: starts PROGRAM on N ranks of this machine. The one place that knows mpirun's switches
# (Open MPI 4 and 5; as root and not; more ranks than CPUs; no network).
n=$1
shift
if [ "$(id -u)" = 0 ]; then
    export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 PRTE_ALLOW_RUN_AS_ROOT=1 PRTE_ALLOW_RUN_AS_ROOT_CONFIRM=1
fi
export OMPI_MCA_mpi_yield_when_idle=1 OMPI_MCA_btl_vader_single_copy_mechanism=none OMPI_MCA_btl_base_warn_component_unused=0
: "${OMP_WAIT_POLICY:=passive}"
export OMP_WAIT_POLICY
case $(${MPIRUN:-mpirun} --version 2>/dev/null | head -n 1) in
*" 4."*) set -- --mca plm_rsh_agent false --mca btl self,vader --mca pml ob1 "$@" ;;
*) set -- --mca btl self,sm --mca pml ob1 "$@" ;;
esac
exec "${MPIRUN:-mpirun}" -n "$n" --oversubscribe --bind-to none "$@"
