# SPDX-License-Identifier: Apache-2.0
# Bash completion of dhash(1).

# Names in the daemon's answer: _dhash_names KEY COMMAND...
_dhash_names() {
	dhash "${@:2}" --json 2>/dev/null | grep -o "\"$1\": *\"[^\"]*\"" | cut -d'"' -f4 | sort -u
}

_dhash() {
	local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD - 1]} command='' i words=''
	local globals='--socket --json --help'
	local commands='status deploy rollback abort watch explain history show logs backups config version help'
	for ((i = 1; i < COMP_CWORD; i++)); do
		case ${COMP_WORDS[i]} in
			--socket) ((i++)) ;;
			-*) ;;
			*) command=${COMP_WORDS[i]}; break ;;
		esac
	done
	case $prev in
		--env) words=$(_dhash_names environment status) ;;
		--service) words=$(_dhash_names service status) ;;
		--tag | --to) words=$(_dhash_names tag history) ;;
		--backup | --socket) mapfile -t COMPREPLY < <(compgen -f -- "$cur"); return ;;
		--directory) mapfile -t COMPREPLY < <(compgen -d -- "$cur"); return ;;
		--lead | --reason | --limit | --timeout | --grep | --lines | --since | -n) return ;;
		*)
			case $command in
				'') words="$commands $globals" ;;
				status) words="--env $globals"
					[[ $cur == -* ]] || words+=" $(_dhash_names service status)" ;;
				deploy) words="--env --tag --service --lead --wait --no-wait --supersede --wait-lock --dry-run --force --reason --yes --timeout $globals" ;;
				rollback) words="--env --service --backup --to --force --reason --yes --wait --no-wait --timeout $globals" ;;
				abort) words="--env --service --reason --yes $globals" ;;
				watch) words="--env --service --timeout $globals" ;;
				explain) words="--service --env $globals" ;;
				history) words="--service --env --limit $globals" ;;
				logs) words="--follow --grep --lines --since --env --service --directory $globals" ;;
				backups) words="list verify --service --env $globals" ;;
				config) words="check $globals" ;;
				help) words=$commands ;;
				*) words=$globals ;;
			esac
			case $command in
				abort | watch | explain | show | logs)
					[[ $cur == -* ]] || words+=" $(_dhash_names id history)" ;;
			esac ;;
	esac
	mapfile -t COMPREPLY < <(compgen -W "$words" -- "$cur")
}
complete -F _dhash dhash
