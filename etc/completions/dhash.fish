# SPDX-License-Identifier: Apache-2.0
# Fish completion of dhash(1).

function __dhash_names --argument-names key command
    dhash $command --json 2>/dev/null | string match -ra "\"$key\": *\"([^\"]*)\"" | string match -v '*:*' | sort -u
end

set -l commands status deploy rollback abort watch explain history show logs backups config version help
complete -c dhash -f
complete -c dhash -n "not __fish_seen_subcommand_from $commands" -a "$commands"
complete -c dhash -l socket -r -F -d 'where dhashd listens'
complete -c dhash -l json -d "print the daemon's JSON"
complete -c dhash -l help -s h -d 'options'
set -l uses "__fish_seen_subcommand_from"
complete -c dhash -n "$uses status deploy rollback abort watch explain history logs backups" -l env -x -a '(__dhash_names environment status)'
complete -c dhash -n "$uses deploy rollback abort watch explain history logs backups" -l service -x -a '(__dhash_names service status)'
complete -c dhash -n "$uses deploy" -l tag -x -a '(__dhash_names tag history)' -d 'release to deploy'
complete -c dhash -n "$uses deploy" -l lead -x -d 'who leads'
complete -c dhash -n "$uses deploy" -l supersede -d 'replace a live deployment'
complete -c dhash -n "$uses deploy" -l wait-lock -d 'wait for a live deployment to end'
complete -c dhash -n "$uses deploy" -l dry-run -d 'change nothing'
complete -c dhash -n "$uses deploy rollback" -l force -d 'override what refuses'
complete -c dhash -n "$uses deploy rollback abort" -l reason -x -d 'why'
complete -c dhash -n "$uses deploy rollback abort" -l yes -d 'do not ask'
complete -c dhash -n "$uses deploy rollback" -l wait -d 'wait for the end'
complete -c dhash -n "$uses deploy rollback" -l no-wait -d 'print the id and return'
complete -c dhash -n "$uses deploy rollback watch" -l timeout -x -d 'wait at most'
complete -c dhash -n "$uses rollback" -l backup -r -F -d 'backup to restore'
complete -c dhash -n "$uses rollback" -l to -x -a '(__dhash_names tag history)' -d 'release to go back to'
complete -c dhash -n "$uses history" -l limit -x -d 'at most so many'
complete -c dhash -n "$uses logs" -l follow -s f -d 'go on with what comes'
complete -c dhash -n "$uses logs" -l grep -x -d 'only what matches'
complete -c dhash -n "$uses logs" -l lines -s n -x -d 'only the newest'
complete -c dhash -n "$uses logs" -l since -x -d 'only from then on'
complete -c dhash -n "$uses logs" -l directory -x -a '(__fish_complete_directories)' -d 'a copied journal'
complete -c dhash -n "$uses abort watch explain show logs" -a '(__dhash_names id history)'
complete -c dhash -n "$uses backups" -a 'list verify'
complete -c dhash -n "$uses config" -a check
complete -c dhash -n "$uses help" -a "$commands"
