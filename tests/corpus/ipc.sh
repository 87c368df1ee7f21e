q=$(ipcmk -Q | sed 's/[^0-9]//g')
m=$(ipcmk -M 4096 | sed 's/[^0-9]//g')
s=$(ipcmk -S 3 | sed 's/[^0-9]//g')
ipcs -q -i "$q"
ipcs -m -i "$m"
ipcs -s -i "$s"
ipcs -l -u
ipcrm -q "$q" -m "$m" -s "$s"
