# A module run on this machine: ansible forks a worker, which runs shells, and one of them the module.
export LC_ALL=C.UTF-8 ANSIBLE_LOCAL_TEMP="$HOME/local" ANSIBLE_REMOTE_TEMP="$HOME/remote"
ansible localhost -c local -m command -a 'echo by ansible' 2>/dev/null
